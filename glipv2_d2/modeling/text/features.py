"""What a language backbone hands to the fusion neck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["TextFeatures"]


@dataclass
class TextFeatures:
    """Features of B prompts, T tokens and L channels.

    Attributes:
        hidden: (B, T, L), float, output of the last layer; input of the fusion neck. What stands at
            padding is arbitrary.
        embedded: (B, T, L), float, average of the last n layers, 0 at padding; what a tower without
            fusion classifies with.
        mask: (B, T) bool, the padding mask of `TokenizedPrompts`: True for real tokens.
        causal, seen_by_image: (B,) bool or None, see `TokenizedPrompts`.
    """

    hidden: Tensor
    embedded: Tensor
    mask: Tensor
    causal: Tensor | None = None
    seen_by_image: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return self.mask.shape[0]

    def __getitem__(self, prompts: slice | Sequence[int] | Tensor) -> TextFeatures:
        """The features of some prompts of the batch, by slice, indices or a boolean mask."""
        return TextFeatures(
            self.hidden[prompts],
            self.embedded[prompts],
            self.mask[prompts],
            None if self.causal is None else self.causal[prompts],
            None if self.seen_by_image is None else self.seen_by_image[prompts],
        )
