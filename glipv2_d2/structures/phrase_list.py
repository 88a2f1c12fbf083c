"""A list of strings that can be a field of Detectron2's Instances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

__all__ = ["PhraseList"]


class PhraseList:
    """Strings that are indexed, filtered and concatenated the way tensors are."""

    def __init__(self, phrases: Iterable[str] = ()):
        self._phrases = list(phrases)

    def __len__(self) -> int:
        return len(self._phrases)

    def __iter__(self) -> Iterator[str]:
        return iter(self._phrases)

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, PhraseList) else other)

    def __repr__(self) -> str:
        return f"PhraseList({self._phrases!r})"

    def __getitem__(self, rows: int | slice | Sequence | torch.Tensor) -> str | PhraseList:
        """One string for an integer; a PhraseList for a slice, a boolean mask or indices."""
        if isinstance(rows, int):
            return self._phrases[rows]
        # The rows as integers: an index tensor understands masks, lists and slices alike.
        rows = rows.cpu() if isinstance(rows, torch.Tensor) else rows
        return PhraseList(
            self._phrases[i] for i in torch.arange(len(self))[rows].reshape(-1).tolist()
        )

    @staticmethod
    def cat(lists: Sequence[PhraseList]) -> PhraseList:
        """One list after the other; `Instances.cat` calls it."""
        return PhraseList(phrase for phrases in lists for phrase in phrases)
