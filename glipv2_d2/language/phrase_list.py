"""Strings that can be a field of Detectron2's Instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["PhraseList"]

_SHOWN = 6  # strings of a printed one


class PhraseList(tuple):
    """Strings that are indexed, filtered and concatenated the way tensors are.

    A tuple, which json and all else that takes one understands; it equals a list of the same
    strings, too. Not a list: of lists `Instances.cat` makes a plain one, which no mask indexes.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:  # tuple's own knows no lists
        return not self == other

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        if len(self) <= _SHOWN:
            return f"PhraseList({list(self)!r})"
        return f"PhraseList([{', '.join(map(repr, self[:_SHOWN]))}, ...], {len(self)} in all)"

    def __getitem__(self, rows: Any) -> Any:
        """Select as an array does.

        Args:
            rows: an integer of any library; or a slice, a boolean mask or indices, of any library
                or in a list.

        Returns:
            One string for an integer, else a PhraseList.
        """
        rows = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else rows
        chosen = np.arange(len(self))[rows].tolist()  # it understands them all alike
        if isinstance(chosen, int):
            return super().__getitem__(chosen)
        strings = tuple(self)
        return PhraseList(strings[i] for i in chosen)

    @staticmethod
    def cat(lists: Sequence[PhraseList]) -> PhraseList:
        """One list after the other; `Instances.cat` calls it."""
        return PhraseList(phrase for phrases in lists for phrase in phrases)
