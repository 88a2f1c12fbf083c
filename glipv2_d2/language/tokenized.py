"""Prompts as tokens, and what is asked of whatever makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import PromptTooLongError
from .positive_map import own_words, positive_map
from .prompt import SEPARATOR, Prompt
from .spans import Span
from .words import ClassNames, Exemplar


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
        causal: (B,) bool, the prompts in which no word sees a later one; None: none of them.
        seen_by_image: (B,) bool, the prompts that the image attends to; None: all of them.
        embedding_ids: B tuned embeddings, or None for a prompt that has none; None: no prompt has.
        exemplars: of B prompts those of their phrases, see `Prompt`; None: no prompt has any.
    """

    input_ids: Tensor
    mask: Tensor
    positive_maps: list[Tensor]
    own_words: Tensor | None = None
    causal: Tensor | None = None
    seen_by_image: Tensor | None = None
    embedding_ids: Sequence[str | None] | None = None
    exemplars: Sequence[tuple[Exemplar | None, ...]] | None = None

    @classmethod
    def collate(
        cls,
        prompts: Sequence[Prompt],
        ids: Sequence[Sequence[int]],
        offsets: Sequence[Sequence[Span]],
        max_tokens: int,
        pad_token_id: int = 0,
    ) -> TokenizedPrompts:
        """B prompts that a tokenizer has encoded, padded to the longest of them.

        Args:
            prompts: B of them.
            ids, offsets: of each prompt the ids of its tokens, and see `Tokenizer.offsets`.
            max_tokens: the longest prompt.
            pad_token_id: stands at padding.

        Raises:
            PromptTooLongError: a prompt has more than `max_tokens` tokens.
            PromptError: a phrase has no token.
        """
        for prompt, row in zip(prompts, ids):
            check_length(prompt, len(row), max_tokens)
        size = len(prompts), max(map(len, ids))
        input_ids = torch.full(size, pad_token_id, dtype=torch.int64)
        mask = torch.zeros(size, dtype=torch.bool)
        own = torch.zeros(size, dtype=torch.bool)
        maps = []
        for i, (prompt, row, characters) in enumerate(zip(prompts, ids, offsets)):
            input_ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = True
            padded = [*characters, *[(0, 0)] * (size[1] - len(row))]
            maps.append(positive_map(prompt, padded))
            own[i] = own_words(prompt, padded)
        causal, seen = ([getattr(p, name) for p in prompts] for name in ("causal", "seen_by_image"))
        return cls(
            input_ids,
            mask,
            maps,
            own,
            torch.tensor(causal) if any(causal) else None,
            None if all(seen) else torch.tensor(seen),
            embedding_ids(prompts),
            exemplars(prompts),
        )

    def __len__(self) -> int:
        """B."""
        return len(self.input_ids)

    def to(self, device: str | torch.device) -> TokenizedPrompts:
        """The same on another device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return TokenizedPrompts(
            self.input_ids.to(device),
            self.mask.to(device),
            [positive_map.to(device) for positive_map in self.positive_maps],
            moved(self.own_words),
            moved(self.causal),
            moved(self.seen_by_image),
            self.embedding_ids,
            self.exemplars,
        )


def embedding_ids(prompts: Sequence[Prompt]) -> list[str | None] | None:
    """The tuned embeddings of prompts, see `TokenizedPrompts`."""
    ids = [prompt.embedding_id for prompt in prompts]
    return None if ids.count(None) == len(ids) else ids


def exemplars(prompts: Sequence[Prompt]) -> list[tuple[Exemplar | None, ...]] | None:
    """The exemplars of prompts, see `TokenizedPrompts`."""
    given = [prompt.exemplars for prompt in prompts]
    return given if any(given) else None


class Tokenizer(Protocol):
    """What the data pipeline and the model ask of a tokenizer; picklable, for data workers.

    `PromptTokenizer` and `ParallelClassTokenizer` are ones.

    Attributes:
        max_tokens: the longest prompt in tokens, special ones included.
        num_special_tokens: tokens that every prompt has besides its words, as [CLS] and [SEP].
        mask_token_id: what stands for a masked word; None: words cannot be masked.
        vocabulary_size: the number of distinct token ids.
    """

    @property
    def max_tokens(self) -> int: ...
    @property
    def num_special_tokens(self) -> int: ...
    @property
    def mask_token_id(self) -> int | None: ...
    @property
    def vocabulary_size(self) -> int: ...

    def __call__(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """Tokenize B prompts; PromptTooLongError where one has more than `max_tokens` tokens."""

    def split(
        self,
        names: ClassNames,
        class_ids: Sequence[int] | None = None,
        size: int | None = None,
        separator: str = SEPARATOR,
    ) -> list[Prompt]:
        """A vocabulary as prompts that each fit; `chunks.split_vocabulary` does it for any
        tokenizer."""

    def offsets(self, caption: str) -> list[Span]:
        """The `[start, end)` characters of each token of a caption; empty for special tokens."""

    def num_tokens(self, caption: str) -> int:
        """The tokens of a caption, special ones included."""

    def name_tokens(self, name: str) -> int:
        """The tokens of a class name or separator alone, without special ones: their sum over a
        detection prompt tells about how long it is."""

    def fitting_prefix(self, caption: str, max_tokens: int | None = None) -> int:
        """How many leading characters of a caption fit `max_tokens`, its own by default, cut
        between two words."""


def check_length(prompt: Prompt, count: int, max_tokens: int) -> None:
    """Check that a prompt of `count` tokens fits.

    Raises:
        PromptTooLongError: it does not; says what can be done.
    """
    if count <= max_tokens:
        return
    if prompt.kind != "detection":
        remedy = f"shorten the {'question' if prompt.kind == 'question' else 'caption'}"
    elif len(prompt) > 1:
        remedy = "split the class names into several prompts (PromptTokenizer.split)"
    else:
        remedy = "shorten the class name"
    raise PromptTooLongError(
        f"the prompt {prompt.caption[:60]!r}... with {len(prompt)} phrases has {count} tokens, "
        f"the limit is {max_tokens}: {remedy}"
    )
