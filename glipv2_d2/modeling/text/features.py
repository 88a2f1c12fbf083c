"""What a language backbone hands to the fusion neck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import PromptError
from ...language.tokenized import TokenizedPrompts

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

    def with_exemplars(self, tokens: TokenizedPrompts) -> TextFeatures:
        """The features with the exemplars of the prompts in place of their phrases' words.

        Raises:
            PromptError: an exemplar has another number of channels.
        """
        if tokens.exemplars is None:
            return self
        hidden = self.hidden.clone()
        for row, positive_map, exemplars in zip(hidden, tokens.positive_maps, tokens.exemplars):
            for of_phrase, exemplar in zip(positive_map, exemplars):
                if exemplar is None:
                    continue
                vector = row.new_tensor(exemplar.vector)
                if len(vector) != row.shape[1]:
                    raise PromptError(
                        f"the exemplar {exemplar.name!r} has {len(vector)} channels, and words of "
                        f"this model have {row.shape[1]}: make it with this model"
                    )
                row[of_phrase] = torch.lerp(vector, row[of_phrase], exemplar.text_weight)
        change = hidden - self.hidden
        return replace(self, hidden=hidden, embedded=self.embedded + change)
