"""Character spans of phrases in a caption: checked, compared, found, widened to whole words.

A span is a pair `[start, end)` of character positions; a phrase has one span or several ("the
[man] ... [he]"). Prompts hold them as tuples, json and the annotations of records as lists.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

Span = tuple[int, int]

_WORD = re.compile(r"\w+(?:['’]\w+)*")
# Scripts that are written without spaces between words; BERT makes each character a token.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FA1F),
)


def range_problem(caption: str, span: Any) -> str | None:
    """Why `span` is no range of characters of `caption`; None if it is one."""
    if not isinstance(span, (list, Sequence)) or isinstance(span, str) or len(span) != 2:
        return f"{span!r} is not a pair [start, end)"
    start, end = span
    for x in span:
        if isinstance(x, bool) or not hasattr(x, "__index__"):
            return f"span [{start}, {end}) is not a pair of integers"
    if start < 0 or end > len(caption):
        return f"span [{start}, {end}) is out of range: the caption has {len(caption)} characters"
    if start >= end:
        return f"span [{start}, {end}) is empty or reversed"
    return None


def span_problem(caption: str, span: Any) -> str | None:
    """Why `span` is no span of whole words of `caption`; None if it is one."""
    problem = range_problem(caption, span)
    if problem:
        return problem
    start, end = span
    text = caption[start:end]
    if not text.strip():
        return f"span [{start}, {end}) covers white space only"
    for edge in (start, end):
        if 0 < edge < len(caption) and _in_word(caption[edge - 1]) and _in_word(caption[edge]):
            return f"span [{start}, {end}) = {text!r} begins or ends inside a word"
    return None


def _in_word(char: str) -> bool:
    """Letters, digits and combining marks of scripts that put spaces between words."""
    if char.isascii():
        return char.isalnum()
    if unicodedata.category(char)[0] not in "LNM":
        return False
    code = ord(char)
    return not any(low <= code <= high for low, high in _UNSPACED)


def phrase_key(spans: Iterable[Sequence[int]]) -> tuple[Span, ...]:
    """The spans of a phrase sorted and without repetition: equal for the same phrase.

    Sorted keys of several phrases are in the order of the caption.
    """
    return tuple(sorted({(int(start), int(end)) for start, end in spans}))


def phrase_text(caption: str, spans: Iterable[Any]) -> str:
    """The text of a phrase, that of its spans with spaces between; "?" for what is no span.

    It is for people; whoever uses the spans says what is wrong with them.
    """
    if not isinstance(spans, Iterable):
        return "?"
    return " ".join("?" if range_problem(caption, s) else caption[s[0] : s[1]] for s in spans)


def find_phrase(caption: str, phrase: str) -> list[int] | None:
    """Where a phrase first stands in a caption as whole words, whatever the case, as `[start,
    end)`; None where it does not."""
    words = phrase.split()
    if not words:
        return None
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)"
    match = re.search(pattern, caption, re.IGNORECASE)
    return None if match is None else [match.start(), match.end()]


def whole_caption(caption: str) -> list[list[list[int]]]:
    """The spans of one phrase: the caption without the white space at its ends."""
    start = len(caption) - len(caption.lstrip())
    return [[[start, len(caption.rstrip())]]]


def to_words(caption: str, spans: Iterable[Any]) -> list[list[int]]:
    """Spans widened to whole words; those that touch or overlap become one.

    Models that label captions give the spans of word pieces, for instance [0, 3), [3, 6), [6, 10)
    for one word.

    Raises:
        ValueError: a span is no pair of integers, is empty, or out of range.
    """
    words = [match.span() for match in _WORD.finditer(caption)]
    widened = []
    for span in spans:
        problem = range_problem(caption, span)
        if problem:
            raise ValueError(problem)
        start, end = span
        touched = [word for word in words if word[0] < end and start < word[1]]
        if touched:
            start, end = min(start, touched[0][0]), max(end, touched[-1][1])
        widened.append([start, end])
    result: list[list[int]] = []
    for start, end in sorted(widened):
        if result and start <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([start, end])
    return result
