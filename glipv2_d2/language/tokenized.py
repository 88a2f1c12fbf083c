"""Prompts as tokens, and what is asked of whatever makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .prompt import SEPARATOR, Prompt
from .spans import Span


@dataclass
class TokenizedPrompts:
    """B prompts as tokens, padded to the longest prompt of the batch.

    Attributes:
        input_ids: (B, T) int64.
        mask: (B, T) bool, the padding mask: True where there is a real token ([CLS] and [SEP] are
            real), False for padding.
        positive_maps: B tensors (K_i, T) bool: which tokens belong to which phrase.
        own_words: (B, T) bool, True for the words of the caption itself: no special token, nothing
            outside `Prompt.own_span`. None where words are not to be masked.
    """

    input_ids: Tensor
    mask: Tensor
    positive_maps: list[Tensor]
    own_words: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.input_ids)

    def to(self, device: str | torch.device) -> TokenizedPrompts:
        """The same on another device."""
        return TokenizedPrompts(
            self.input_ids.to(device),
            self.mask.to(device),
            [positive_map.to(device) for positive_map in self.positive_maps],
            None if self.own_words is None else self.own_words.to(device),
        )


class Tokenizer(Protocol):
    """What the data pipeline and the model ask of a tokenizer.

    `PromptTokenizer` and `ParallelClassTokenizer` are ones. It must be picklable, for data workers.
    """

    @property
    def max_tokens(self) -> int:
        """The longest prompt in tokens, special ones included."""

    @property
    def num_special_tokens(self) -> int:
        """The tokens that every prompt has besides its words, as [CLS] and [SEP]."""

    @property
    def mask_token_id(self) -> int | None:
        """What stands for a masked word; None: words cannot be masked."""

    @property
    def vocabulary_size(self) -> int:
        """The number of distinct token ids."""

    def __call__(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """Tokenize B prompts.

        Raises:
            PromptTooLongError: a prompt with more than `max_tokens` tokens.
            PromptError: no prompts, or a phrase that has no token.
        """

    def split(
        self,
        names: Sequence[str],
        class_ids: Sequence[int] | None = None,
        size: int | None = None,
        separator: str = SEPARATOR,
    ) -> list[Prompt]:
        """A vocabulary as detection prompts that each fit `max_tokens`, in order.

        Args:
            names: the class names.
            class_ids: their ids, which the prompts keep; 0, 1, 2, ... by default.
            size: at most so many names in a prompt (40 in GLIP's LVIS protocol); None: as many as
                fit.
            separator: what stands between two names.

        Raises:
            PromptTooLongError: one name alone does not fit.
            PromptError: no names, or not one id per name.
        """

    def offsets(self, caption: str) -> list[Span]:
        """The `[start, end)` characters of each token of a caption; empty for special tokens."""

    def num_tokens(self, caption: str) -> int:
        """The tokens of a caption, special ones included."""

    def name_tokens(self, name: str) -> int:
        """The tokens of a class name or separator alone, without special ones, or an upper bound.

        The sum over the names and separators of a detection prompt, plus `num_special_tokens`, is
        never less than its `num_tokens`.
        """

    def fitting_prefix(self, caption: str) -> int:
        """How many leading characters of a caption fit `max_tokens`, cut between two words."""
