"""One shape for every published format of weights, and the list of those that are known."""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping

import torch
from fvcore.common.registry import Registry
from torch import nn

from ..names import plain_names

__all__ = ["WEIGHT_FORMATS", "WeightFormat", "Weights", "find_format"]

Weights = Mapping[str, torch.Tensor]

WEIGHT_FORMATS = Registry("WEIGHT_FORMATS")


class WeightFormat(ABC):
    """A published format of weights: how it is told from others, and what its names are here.

    A format of your own loads wherever the shipped ones do (`train.init_checkpoint`,
    `load_state_dict`, Detectron2's checkpointer, `pretrained=` of a backbone) once its class is
    registered, for instance in your config file:

        from glipv2_d2.checkpoint.formats import WEIGHT_FORMATS, WeightFormat

        @WEIGHT_FORMATS.register()
        class Ours(WeightFormat):
            title = "Ours"
            left_out = ((r"teacher\\..*", "the teacher of a distillation"),)

            def recognizes(self, names):
                return "trunk.stem.weight" in names

            def convert(self, state, module):
                kept = {n: v for n, v in state.items() if self.explain_left_out(n) is None}
                return {n.replace("trunk.", "backbone.bottom_up."): v for n, v in kept.items()}

    Attributes:
        title: what messages call it.
        whole: a file holds all weights of a GLIP, so that a stock loader, which would only log
            what is missing, gets an error instead.
        left_out: (pattern of a whole name, why no module here needs a weight of that name).
        parts: module of a GLIP -> how the names of its weights begin in this format. Those modules
            are not asked for pretrained weights of their own when a file brings them.
    """

    title: str
    whole = False
    left_out: tuple[tuple[str, str], ...] = ()
    parts: Mapping[str, tuple[str, ...]] = {}

    @abstractmethod
    def recognizes(self, names: Collection[str]) -> bool:
        """Whether weights of these names, without those of wrappers, are of this format."""

    @abstractmethod
    def convert(self, state: Weights, module: nn.Module) -> dict[str, torch.Tensor]:
        """The weights under the names that they have in `module`; `state` stays as it is.

        Raises:
            CheckpointError: a name has no place and is not left out, or a part is missing.
        """

    def explain_left_out(self, name: str) -> str | None:
        """Why no weight of this name is needed; None: it is needed, or unknown."""
        return next(
            (reason for pattern, reason in self.left_out if re.fullmatch(pattern, name)), None
        )


def find_format(names: Iterable[str]) -> WeightFormat | None:
    """The format of weights with these names, in a wrapper or not; None: they may be our own.

    Of several that recognize them, the one that was registered last is taken.
    """
    plain = dict.fromkeys(plain_names(names))
    known = [cls() for _, cls in WEIGHT_FORMATS]
    return next((each for each in reversed(known) if each.recognizes(plain)), None)
