"""The tokens of a batch of prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class TokenizedPrompts:
    """B prompts as tokens, padded to the longest prompt of the batch.

    Attributes:
        input_ids: (B, T) int64.
        mask: (B, T) bool, True where there is a real token ([CLS] and [SEP] are real).
        positive_maps: B tensors (K_i, T) bool: which tokens belong to which phrase.
        own_words: (B, T) bool, True for the words of the caption itself: no special token, nothing
            outside `Prompt.own_span`. None where words are not to be masked.
    """

    input_ids: Tensor
    mask: Tensor
    positive_maps: list[Tensor]
    own_words: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: str | torch.device) -> TokenizedPrompts:
        """The same on another device."""
        return TokenizedPrompts(
            self.input_ids.to(device),
            self.mask.to(device),
            [positive_map.to(device) for positive_map in self.positive_maps],
            None if self.own_words is None else self.own_words.to(device),
        )
