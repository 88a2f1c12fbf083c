"""Which tokens belong to which phrase, and back: from scores of tokens to scores of classes.

The one place where characters become tokens. In training `positive_map[gt_classes]` are the tokens
that a box should be found by; at inference `ClassMap` takes the scores of tokens through the same
map to phrases, and on to the classes that they stand for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PromptError
from .prompt import Prompt

__all__ = ["ClassMap", "overlapping_tokens", "own_words", "positive_map"]


def positive_map(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """The tokens of each phrase of a prompt.

    Args:
        prompt: K phrases with character spans.
        offsets: of T tokens, see `overlapping_tokens`.

    Returns:
        (K, T) bool.

    Raises:
        PromptError: a phrase without any token (only characters that the tokenizer removes).
    """
    result = overlapping_tokens(prompt.spans, offsets)
    empty = (~result.any(1)).nonzero().flatten().tolist()
    if empty:
        raise PromptError(
            f"phrase {prompt.names[empty[0]]!r} of {prompt.caption[:80]!r} has no token: "
            "the tokenizer removes all of its characters; name it with other words"
        )
    return result


def own_words(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """(T,) bool: the tokens that lie in the prompt's `own_span`; arguments as `positive_map`."""
    return overlapping_tokens([[prompt.own_span or (0, len(prompt.caption))]], offsets)[0]


def overlapping_tokens(
    phrases: Sequence[Iterable[Sequence[int]]], offsets: Sequence[tuple[int, int]]
) -> Tensor:
    """The tokens that share a character with a span of a phrase.

    Args:
        phrases: of each of K phrases its `[start, end)` character spans.
        offsets: the `[start, end)` characters of each of T tokens, as a fast Hugging Face
            tokenizer gives them; special and padding tokens have an empty range.

    Returns:
        (K, T) bool.
    """
    ranges = torch.as_tensor(offsets, dtype=torch.int64).reshape(-1, 2)
    start, end = ranges[:, 0], ranges[:, 1]
    owned = [(k, *span) for k, spans in enumerate(phrases) for span in spans]
    owner, first, last = torch.tensor(owned, dtype=torch.int64).reshape(-1, 3).unbind(1)
    hit = (start < last[:, None]) & (first[:, None] < end) & (start < end)  # (spans, T)
    # A phrase with several spans owns several rows of `hit`; any of them counts.
    rows = torch.zeros(len(phrases), len(ranges), dtype=torch.int64)
    return rows.index_add_(0, owner, hit.long()) > 0


class ClassMap(NamedTuple):
    """How scores of tokens become scores of classes.

    Attributes:
        phrase_weights: (K, T) rows that average the tokens of a phrase.
        phrase_class: (K,) index in `class_ids` of the class that each phrase stands for.
        class_ids: (classes,) distinct ids, ascending.
    """

    phrase_weights: Tensor
    phrase_class: Tensor
    class_ids: Tensor

    @classmethod
    def build(cls, prompt: Prompt, positive_map: Tensor) -> ClassMap:
        """`positive_map`: (K, T) bool, of the prompt's phrases."""
        weights = positive_map.float()
        ids = torch.tensor(prompt.class_ids, dtype=torch.int64, device=positive_map.device)
        class_ids, phrase_class = ids.unique(return_inverse=True)
        return cls(weights / weights.sum(dim=1, keepdim=True), phrase_class, class_ids)

    def scores(self, logits: Tensor) -> Tensor:
        """(n, T) logits -> (n, classes): mean over a phrase's tokens, then the best phrase."""
        phrases = logits.sigmoid() @ self.phrase_weights.T.to(logits.dtype)
        if len(self.class_ids) == len(self.phrase_class):
            return phrases[:, self.phrase_class.argsort()]
        merged = phrases.new_zeros((len(phrases), len(self.class_ids)))
        index = self.phrase_class.expand(len(phrases), -1)
        return merged.scatter_reduce(1, index, phrases, "amax")

    def weighed(self, factors: Tensor) -> ClassMap:
        """The same with the score of each phrase multiplied by one of `factors` (K,), above 0."""
        return self._replace(phrase_weights=self.phrase_weights * factors[:, None])

    def tokens_of(self, classes: Tensor) -> Tensor:
        """(n,) class ids of this map -> (n, T) bool: the tokens of all their phrases."""
        of_phrase = torch.searchsorted(self.class_ids, classes)[:, None] == self.phrase_class
        return of_phrase.to(self.phrase_weights.dtype) @ self.phrase_weights > 0
