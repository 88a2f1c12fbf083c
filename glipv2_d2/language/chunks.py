"""Vocabularies in chunks: detection prompts that each fit a limit of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import PromptError
from .prompt import SEPARATOR, Prompt, clean_name
from .tokenized import Tokenizer, check_length
from .words import ClassNames, Exemplar, words_of_classes

__all__ = ["prompts_of_words", "split_vocabulary"]


def split_vocabulary(
    tokenizer: Tokenizer,
    names: ClassNames,
    class_ids: Sequence[int] | None = None,
    size: int | None = None,
    separator: str = SEPARATOR,
) -> list[Prompt]:
    """A vocabulary as detection prompts that each fit the tokenizer's `max_tokens`, in order.

    Args:
        tokenizer: tells the number of tokens of names and prompts.
        names: the class names; of a class that has several words, a list of them. Its words may
            be in two prompts: the best of them counts, see `GroundingPostprocessor.merge`.
        class_ids: their ids, which the prompts keep; 0, 1, 2, ... by default.
        size: at most so many names in a prompt (40 in GLIP's LVIS protocol); None: as many as fit.
        separator: what stands between two names.

    Raises:
        PromptTooLongError: one name alone does not fit.
        PromptError: no names, or not one id per name.
    """
    if not len(names):
        raise PromptError("the vocabulary is empty: give at least one class name")
    words, ids = words_of_classes(names, class_ids)
    if size is not None and size < 1:
        raise PromptError(f"a prompt must hold at least one name, got size={size}")
    cleaned = [clean_name(word) for word in words]
    gap, limit = tokenizer.name_tokens(separator), tokenizer.max_tokens
    result: list[Prompt] = []
    start = 0
    while start < len(cleaned):
        last = min(start + (size or len(cleaned)), len(cleaned))
        used, end = tokenizer.num_special_tokens + tokenizer.name_tokens(cleaned[start]), start + 1
        while end < last and (used := used + gap + tokenizer.name_tokens(cleaned[end])) <= limit:
            end += 1
        while True:
            prompt = Prompt.from_classes(cleaned[start:end], ids[start:end], separator)
            count = tokenizer.num_tokens(prompt.caption)
            if count <= limit or len(prompt) == 1:
                break
            end -= 1  # the sum of counts is exact for BERT, not for every tokenizer
        check_length(prompt, count, limit)
        result.append(prompt)
        start = end
    return result


def prompts_of_words(
    tokenizer: Tokenizer, words: Sequence[tuple[str | Exemplar, int]], size: int | None = None
) -> list[Prompt]:
    """The prompts of words with their class ids, in as few as hold them.

    Args:
        size: see `split_vocabulary`, as the errors.
    """
    if not words:
        return []
    names = [word.name if isinstance(word, Exemplar) else word for word, _ in words]
    prompts = tokenizer.split(names, [i for _, i in words], size)
    seen = [word if isinstance(word, Exemplar) else None for word, _ in words]
    if not any(seen):
        return prompts
    in_order = iter(seen)
    return [replace(p, exemplars=tuple(next(in_order) for _ in p.names)) for p in prompts]
