"""Weights of every known format into modules: what modeling asks for (see modeling/weights.py)."""

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import timm
import torch
from torch import nn

from ..errors import CheckpointError
from ..modeling.weights import WEIGHTS_REGISTRY
from .fit import check_fit, check_weights, excused_keys
from .formats import WeightFormat, find_format
from .names import plain_names
from .reading import read_checkpoint

__all__ = ["convert_on_load", "converted", "load_pretrained"]

logger = logging.getLogger(__name__)


@WEIGHTS_REGISTRY.register()
def convert_on_load(module: nn.Module, state: dict, prefix: str, *_) -> None:
    """`load_state_dict` pre-hook of GLIP: weights of other formats get its names on their way in.

    So they come through every loader: torch's own, Detectron2's checkpointer, DefaultPredictor,
    none of which then calls a weight missing that is there. Those of a model in a wrapper
    (torch.compile, ...) get plain names; those that a file may lack (`excused_keys`) stay as they
    are.

    Args:
        module: the GLIP. state: changed in place, as such hooks do. prefix: the GLIP's name inside
            the module that is loaded.

    Raises:
        CheckpointError: see `converted`; or a format that holds whole models has not all weights
            of this one (`GLIPCheckpointer` starts training from a part).
    """
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not inside:
        return
    found, weights = converted(inside, module, source="")
    if found is not None and found.whole:
        check_weights(module, weights, source=found.title, strict=True)
    excused = excused_keys(module)
    own = module.state_dict() if excused else {}
    weights = {**{name: own[name] for name in excused}, **weights}
    for name in inside:
        del state[prefix + name]
    state.update((prefix + name, value) for name, value in weights.items())


@WEIGHTS_REGISTRY.register()
def load_pretrained(
    module: nn.Module,
    source: str | Mapping[str, torch.Tensor],
    *,
    name: str = "",
    optional: Collection[str] = (),
    remedy: str = "",
) -> None:
    """Fill a module with the weights that its argument `pretrained` asks for.

    Args:
        module: a backbone, or a tower of one.
        source: a checkpoint file of a known format, the name of a timm model, which timm fetches,
            or a state dict that was read already.
        name: what messages call the source; empty: by itself.
        optional: names that the source may lack.
        remedy: what the user can do when it does not fit, for the message.

    Raises:
        CheckpointError: there are no such weights, or they do not fit the module.
    """
    if isinstance(source, str):
        name = name or source
        source = _read_pretrained(source)
    _, weights = converted(source, module, source=name)
    own = module.state_dict()
    check_fit(own, weights, source=f"'{name}'", strict=True, optional=optional, remedy=remedy)
    module.load_state_dict(weights, strict=False)


def converted(
    state: Mapping[str, torch.Tensor], module: nn.Module, *, source: str
) -> tuple[WeightFormat | None, dict[str, torch.Tensor]]:
    """The format of weights (None: our own), and these under the names of `module`.

    Args:
        source: where they come from, for the messages; empty: the format's name says it.

    Raises:
        CheckpointError: see `WeightFormat.convert`.
    """
    plain = dict(zip(plain_names(state), state.values()))
    found = find_format(plain)
    if found is None:
        return None, plain
    source = source or found.title
    try:
        weights = found.convert(plain, module)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    _log_left_out(found, plain, source)
    return found, weights


def _log_left_out(found: WeightFormat, names: Collection[str], source: str) -> None:
    reasons: dict[str, list[str]] = {}
    for name in names:
        reason = found.explain_left_out(name)
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    for reason, left in reasons.items():
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        logger.info("%s: left out (%s): %s%s", source, reason, ", ".join(left[:3]), more)


def _read_pretrained(source: str) -> dict[str, torch.Tensor]:
    """The state dict of a file, or of a model that timm fetches by its name."""
    if os.path.isfile(source):
        return read_checkpoint(Path(source))["model"]
    if not timm.is_model(source):
        raise CheckpointError(
            f"the pretrained weights '{source}' are neither a file nor a timm model"
        )
    try:
        return timm.create_model(source, pretrained=True).state_dict()
    # OSError: the hub's client, without network; the others: timm has no such weights.
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"timm cannot get the pretrained weights '{source}' ({reason}); give a local file "
            "with model.backbone.bottom_up.pretrained=FILE, or run once where the Hugging Face hub "
            "can be reached, which keeps them; False starts from random weights"
        ) from error
