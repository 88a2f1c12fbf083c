"""Weights between those of a base and of a model that was tuned from it (WiSE-FT).

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: on the straight line between
both a model keeps most of what it has learned and forgets less of what the base could do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..errors import CheckpointError, UsageError
from .names import DETECTOR_PARTS, is_within

__all__ = ["merge_weights"]

State = Mapping[str, torch.Tensor]

# Learned offsets of prompts (`GLIP.prompt_embeddings`): a model without one has the plain prompt.
_OFFSETS = "prompt_embeddings."
_COUNTER = ".num_batches_tracked"  # of BatchNorm; means nothing between the ends


def is_position(name: str) -> bool:
    """Whether weights of this name are the positions of a tower (`VLTower`)."""
    return name.endswith(".fusion.positions.weight")


def merge_weights(
    base: State, tuned: State, alpha: float, only: Sequence[str] = ()
) -> dict[str, torch.Tensor]:
    """The weights `(1 - alpha) * base + alpha * tuned`.

    Both are state dicts of one model under this project's names. What is equal, such as a frozen
    part, stays so bit by bit. A task head that only one side has, such as one that was added for
    the tuning, is taken as it is, and so are integers (an older file lacks some). The offset of a
    tuned prompt that only one side has is zero on the other, as are the positions of a tower.
    Integers must be equal, but for BatchNorm's counters, which are those of the nearer end.

    Args:
        base: what the tuning started from.
        tuned: what came out of it.
        alpha: from 0, the values of `base`, to 1, those of `tuned`.
        only: parts of the model, such as "neck.blocks.0.dynamic_conv"; all others are those of
            `tuned`. Empty: all parts.

    Returns:
        New tensors, each in the wider type of both sides (float32 for float16 and float32), so that
        the ends are exact. What lies between is computed in float32 at least.

    Raises:
        UsageError: `alpha` lies outside, or one of `only` is no part of the model.
        CheckpointError: the weights are of different models; the message has the first difference.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is from 0, the base, to 1, the tuned model; got {alpha}")
    names = dict.fromkeys([*base, *tuned])
    for part in only:
        if not any(is_within(name, part) for name in names):
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise UsageError(f"no part '{part}' has weights; parts are {parts}, and theirs")

    def of(name: str) -> float:
        return alpha if not only or any(is_within(name, part) for part in only) else 1.0

    return {name: _between(name, *_pair(name, base, tuned), of(name)) for name in names}


def _pair(name: str, base: State, tuned: State) -> tuple[torch.Tensor, torch.Tensor]:
    one, other = base.get(name), tuned.get(name)
    if name.startswith(_OFFSETS) or is_position(name):
        one = torch.zeros_like(tuned[name]) if one is None else one
        other = torch.zeros_like(one) if other is None else other
    if one is None or other is None:
        only = tuned[name] if one is None else base[name]
        part = name.partition(".")[0]
        parts = {key.partition(".")[0] for key in (base if one is None else tuned)}
        other_head = part not in parts and part not in DETECTOR_PARTS
        if other_head or not only.is_floating_point():
            return only, only
        raise _not_mergeable(f"only the {'tuned' if one is None else 'base'} weights have {name}")
    if one.shape != other.shape:
        raise _not_mergeable(
            f"{name} is {tuple(one.shape)} in the base, {tuple(other.shape)} in the tuned weights"
        )
    return one, other


def _not_mergeable(difference: str) -> CheckpointError:
    return CheckpointError(
        f"weights of different models cannot be merged: {difference}; give the weights that the "
        "tuning started from, and where a release file leaves out a frozen language backbone, the "
        "config, too"
    )


def _between(name: str, base: torch.Tensor, tuned: torch.Tensor, alpha: float) -> torch.Tensor:
    if not (base.is_floating_point() and tuned.is_floating_point()):
        if not (torch.equal(base, tuned) or name.endswith(_COUNTER)):
            raise _not_mergeable(f"the integers of {name} differ")
        return (base if alpha < 0.5 else tuned).clone()
    stored = torch.promote_types(base.dtype, tuned.dtype)
    computed = torch.promote_types(stored, torch.float32)
    # Exact at both ends, and wherever both are equal.
    return torch.lerp(base.to(computed), tuned.to(computed), alpha).to(stored)
