"""Character spans of phrases: found in captions, or made whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

Span = list[int]

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def find_phrase(caption: str, phrase: str) -> Span | None:
    """Where a phrase stands in a caption as whole words, whatever the case; the first place."""
    phrase = phrase.strip()
    if not phrase:
        return None
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, phrase.split())) + r"(?!\w)"
    match = re.search(pattern, caption, re.IGNORECASE)
    return None if match is None else [match.start(), match.end()]


def whole_caption(caption: str) -> list[list[Span]]:
    """One phrase: the caption without blanks at its ends."""
    start = len(caption) - len(caption.lstrip())
    return [[[start, len(caption.rstrip())]]]


def to_words(caption: str, spans: Iterable[Sequence[Any]]) -> list[Span]:
    """Spans widened to whole words; those that touch or overlap become one.

    Models that label captions give the spans of word pieces, for instance [0, 3), [3, 6), [6, 10)
    for one word.

    Raises:
        ValueError: a span is no pair of integers, is empty, or out of range.
    """
    words = [match.span() for match in _WORD.finditer(caption)]
    widened = []
    for span in spans:
        if len(span) != 2 or not all(isinstance(x, int) for x in span):
            raise ValueError(f"{span!r} is not a pair [start, end) of integers")
        start, end = span
        if not 0 <= start < end <= len(caption):
            raise ValueError(
                f"span [{start}, {end}) is empty, reversed or out of range: the caption has "
                f"{len(caption)} characters"
            )
        touched = [word for word in words if word[0] < end and start < word[1]]
        if touched:
            start, end = min(start, touched[0][0]), max(end, touched[-1][1])
        widened.append([start, end])
    result: list[Span] = []
    for start, end in sorted(widened):
        if result and start <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([start, end])
    return result
