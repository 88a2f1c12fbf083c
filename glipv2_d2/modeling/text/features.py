"""What a language backbone hands to the fusion neck."""

from dataclasses import dataclass

import torch

__all__ = ["TextFeatures"]


@dataclass
class TextFeatures:
    """Features of B prompts, T tokens and L channels.

    Attributes:
        hidden: (B, T, L) output of the last layer; input of the fusion neck.
        embedded: (B, T, L) average of the last n layers with padding zeroed; what a tower without
            fusion classifies with.
        mask: (B, T) bool, True for real tokens.
    """

    hidden: torch.Tensor
    embedded: torch.Tensor
    mask: torch.Tensor

    def __len__(self) -> int:
        return self.mask.shape[0]

    def __getitem__(self, rows) -> "TextFeatures":
        """The prompts `rows` (a slice or an index tensor)."""
        return TextFeatures(self.hidden[rows], self.embedded[rows], self.mask[rows])
