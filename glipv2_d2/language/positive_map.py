"""Which tokens belong to which characters: the one place where characters become tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import PromptError
from .prompt import Prompt


def positive_map(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """The token rows of the phrases of a prompt.

    Args:
        prompt: K phrases with character spans.
        offsets: T pairs `[start, end)` of characters of `prompt.caption`, as a fast Hugging
            Face tokenizer gives them; special and padding tokens have an empty range.

    Returns:
        (K, T) bool: a token belongs to a phrase if it overlaps one of its spans.

    Raises:
        PromptError: a phrase without any token (only characters that the tokenizer removes).
    """
    ranges = torch.as_tensor(offsets, dtype=torch.int64).reshape(-1, 2)
    start, end = ranges[:, 0], ranges[:, 1]
    owner = [k for k, spans in enumerate(prompt.spans) for _ in spans]
    spans = torch.tensor([span for phrase in prompt.spans for span in phrase])
    hit = (start < spans[:, 1:]) & (spans[:, :1] < end) & (start < end)  # (spans, T)
    # A phrase with several spans owns several rows of `hit`; any of them counts.
    rows = torch.zeros(len(prompt), len(ranges), dtype=torch.int64)
    rows.index_add_(0, torch.tensor(owner), hit.long())
    result = rows > 0
    empty = (~result.any(1)).nonzero().flatten().tolist()
    if empty:
        raise PromptError(
            f"phrase {prompt.names[empty[0]]!r} of {prompt.caption[:80]!r} has no token: "
            "the tokenizer removes all of its characters; name it with other words"
        )
    return result


def own_words(prompt: Prompt, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """(T,) bool: the tokens that lie in the prompt's `own_span`; arguments as above."""
    first, last = prompt.own_span or (0, len(prompt.caption))
    start, end = torch.as_tensor(offsets, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return (start < last) & (first < end) & (start < end)
