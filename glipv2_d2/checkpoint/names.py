"""Names of weights, without what a model was wrapped in when they were saved, and of its parts."""

import re
from collections.abc import Iterable

__all__ = ["DETECTOR_PARTS", "is_within", "plain_names"]

# Of a model: what the words of a prompt go through, up to the boxes and their scores.
DETECTOR_PARTS = ("backbone", "language_backbone", "neck", "head")

# torch.compile, FSDP and activation checkpointing, of the whole model or of a part of it.
_INSIDE = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# DistributedDataParallel and Lightning; a part of a model may have such a name, too, so that it is
# a wrapper's only if all names begin with it.
_OUTSIDE = ("module.", "model.")


def is_within(name: str, part: str) -> bool:
    """Whether an attribute path is that of a part of the model, or lies below it."""
    return name == part or name.startswith(f"{part}.")


def plain_names(names: Iterable[str]) -> list[str]:
    """The names of a state dict, in order, without those of wrappers."""
    plain = [_INSIDE.sub("", name) for name in names]
    for prefix in _OUTSIDE * 2:  # one in another, in any order
        if all(name.startswith(prefix) for name in plain):
            plain = [name.removeprefix(prefix) for name in plain]
    return plain
