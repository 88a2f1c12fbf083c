"""Vocabularies in chunks: detection prompts that each fit a limit of tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import tokenizers

from ..errors import PromptError
from .prompt import SEPARATOR, Prompt, clean_name
from .tokenized import Tokenizer, check_length

__all__ = ["NameTokens", "split_vocabulary"]


def split_vocabulary(
    tokenizer: Tokenizer,
    names: Sequence[str],
    class_ids: Sequence[int] | None = None,
    size: int | None = None,
    separator: str = SEPARATOR,
) -> list[Prompt]:
    """A vocabulary as detection prompts that each fit the tokenizer's `max_tokens`, in order.

    Args:
        tokenizer: tells the number of tokens of names and prompts.
        names: the class names.
        class_ids: their ids, which the prompts keep; 0, 1, 2, ... by default.
        size: at most so many names in a prompt (40 in GLIP's LVIS protocol); None: as many as fit.
        separator: what stands between two names.

    Raises:
        PromptTooLongError: one name alone does not fit.
        PromptError: no names, or not one id per name.
    """
    ids = list(range(len(names)) if class_ids is None else class_ids)
    if not len(names):
        raise PromptError("the vocabulary is empty: give at least one class name")
    if len(ids) != len(names):
        raise PromptError(f"{len(names)} class names but {len(ids)} class ids")
    if size is not None and size < 1:
        raise PromptError(f"a prompt must hold at least one name, got size={size}")
    cleaned = [clean_name(name) for name in names]
    gap = tokenizer.name_tokens(separator)
    starts, used = [0], tokenizer.num_special_tokens
    for i, count in enumerate(map(tokenizer.name_tokens, cleaned)):
        full = i - starts[-1] == (size or len(cleaned))
        if i > starts[-1] and (full or used + gap + count > tokenizer.max_tokens):
            starts.append(i)
            used = tokenizer.num_special_tokens
        used += count + (gap if i > starts[-1] else 0)
    result = [
        Prompt.from_classes(cleaned[a:b], ids[a:b], separator)
        for a, b in zip(starts, [*starts[1:], len(cleaned)])
    ]
    # The sum of counts is no less than exact where `name_tokens` is; other tokenizers may surprise.
    for prompt in result:
        check_length(prompt, tokenizer.num_tokens(prompt.caption), tokenizer.max_tokens)
    return result


class NameTokens:
    """Counts the tokens of class names and separators alone, without special ones; cached.

    The sum over names and separators is never less than the count of `"cat. hot dog"`. For BERT,
    which splits at spaces and at every punctuation mark first, it is that count. CLIP joins the
    mark at the end of a name to the separator's: there each byte of such marks counts as a token,
    which is the most that they can become.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
        # BERT makes a word of each punctuation mark, CLIP of each run of them.
        words = backend.pre_tokenizer
        self._joins_punctuation = words is not None and len(words.pre_tokenize_str("?!.")) == 1
        self._counts: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        """The tokens of one name."""
        count = self._counts.get(name)
        if count is None:
            count = self._count_alone(name)
            if self._joins_punctuation:
                core, loose = self._without_edge_marks(name)
                count = max(count, self._count_alone(core) + loose)
            self._counts[name] = count
        return count

    def _count_alone(self, text: str) -> int:
        return len(self._backend.encode(text, add_special_tokens=False).ids)

    def _without_edge_marks(self, name: str) -> tuple[str, int]:
        """A name from its first to its last letter or digit, and the bytes of the marks around."""
        if self._backend.normalizer is not None:
            name = self._backend.normalizer.normalize_str(name)
        words = [i for i, char in enumerate(name) if unicodedata.category(char)[0] in "LN"]
        core = name[words[0] : words[-1] + 1] if words else ""
        edges = name.replace(core, "", 1) if core else name
        return core, sum(len(char.encode()) for char in edges if not char.isspace())
