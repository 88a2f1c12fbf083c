"""What a person types as a prompt: names of classes, a caption with phrases, or a question.

One rule for `GroundingPredictor`, `detect.py` and `export_model.py`:

* with [brackets] it is a caption and the brackets mark its phrases: "a [red kite] above a [dog]";
* names between commas, semicolons, stops or line ends, and a name alone, are classes as they are
  written: "trash can, steering wheel", "trash can . red heart .", "legging";
* of names between commas *and* semicolons the semicolons separate classes, and the commas words
  that mean the same class: "cat, kitten; dog", "person, man, woman;" (as in ODISE's demo);
* an English sentence is a caption whose noun phrases are found: "a man riding a horse".

A sentence has a verb ("the dog is brown", "he rides a horse"), or an article inside ("man riding a
horse", "person on a bike"), or begins with an article ("a dog"). Between commas an article is no
sign: "person with a hat, person without a hat" are two classes. What a caption is not asked for is
said in a warning.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..errors import PromptError, UsageError, printable
from . import word_lists as lists
from .noun_phrases import WORD, ends_phrase, noun_phrase_extractor, question_phrases
from .prompt import MASK, Prompt, clean_name
from .spans import Span, span_problem
from .words import ClassNames, words_of_classes

__all__ = ["PROMPT_KINDS", "read_caption", "read_names", "read_prompt", "read_question"]

PROMPT_KINDS = ("auto", "classes", "caption")

# Once per text: a prompt is often asked of a thousand images.
_warn = lru_cache(maxsize=1024)(logging.getLogger(__name__).warning)

_PARENTHESES = re.compile(r"\([^()]*\)")
# Neither the comma of "1,000" nor the stops of "3.5 mm", "U.S. flag" and "Mr. Bean" separate.
_LISTING = r"[;；，、\n]|,(?!(?<=\d,)\d{3}(?!\d))"
_STOP = (
    r"。|\.{2,}|(?<=\s)\.(?!\d)|(?<=[^\W\d_]{2})\.(?=[^\W\d_]{2})"
    r"|(?<!\.\w)(?<!\bmr)(?<!\bmrs)(?<!\bms)(?<!\bdr)(?<!\bst)(?<!\bmt)\.(?=\s|$)"
)
_LISTED = re.compile(_LISTING)
_SEPARATOR = re.compile(f"{_LISTING}|{_STOP}", re.IGNORECASE)
_SEMICOLONS, _COMMAS = ";；", ",，、"


def read_prompt(text: str, kind: str = "auto", backend: str = "rules") -> ClassNames | Prompt:
    """Read a prompt as a person types it, by the rule in this module's description.

    Args:
        text: the prompt.
        kind: `"auto"`, or what the text is: `"classes"` or a `"caption"`.
        backend: finds the phrases of a sentence (`noun_phrase_extractor`).

    Returns:
        Class names, a list of them for a class that has several words; or the Prompt of a caption.

    Raises:
        PromptError: nothing is left of it, no phrase is found in it, or a class has brackets.
        UsageError: an unknown kind or back end.
    """
    if kind not in PROMPT_KINDS:
        raise UsageError(f"the kind of a prompt is one of {PROMPT_KINDS}, got {kind!r}")
    extractor = noun_phrase_extractor(backend)
    if not text.strip():
        raise PromptError('the prompt is empty: give class names ("cat, dog") or a caption')
    if kind != "classes" and ("[" in text or "]" in text):
        return Prompt.parse(text)
    # What stands in parentheses explains a name, and is dropped from it later.
    masked = _PARENTHESES.sub(lambda match: "_" * len(match.group()), text)
    parts = _parts(masked)
    if not parts:
        raise PromptError(
            f'there is no name in the prompt {text!r}: give class names ("cat, dog"), or mark '
            "what to look for with brackets, like 'a [red kite] above a [dog]'"
        )
    words = [_words(masked[start:end]) for start, end in parts]
    if kind == "classes" or (kind == "auto" and not _is_caption(masked, words)):
        return _classes(text, parts, masked)
    spans = []
    for (start, end), part in zip(parts, words):
        sentence = _is_sentence(part)
        found = extractor(text[start:end]) if sentence or kind == "caption" else []
        if not found and not sentence:  # a name
            found = [_without_article(text[start:end])]
        spans += [(start + a, start + b) for a, b in found]
    return _caption(text, spans)


def read_names(text: str) -> list[str]:
    """All names of a list of classes; errors: see `read_prompt`."""
    classes: Any = read_prompt(text, "classes")
    return words_of_classes(classes)[0]


def read_question(text: str, backend: str = "rules", ground_answer: bool = False) -> Prompt:
    """Read a question as a person types it.

    Its phrases stand in [brackets], or else are found (`question_phrases`); it may have none.

    Args:
        text: the question.
        backend: finds the phrases (`noun_phrase_extractor`).
        ground_answer: end it with `MASK`, as a phrase for the answer.

    Raises:
        PromptError: it is empty, or has brackets that are nested, unbalanced or empty.
        UsageError: an unknown back end.
    """
    extractor = noun_phrase_extractor(backend)
    question = text.strip().removesuffix(MASK).rstrip()
    if not question:
        raise PromptError('the question is empty: give one, as "what color is the star?"')
    if "[" in question or "]" in question:
        parsed = Prompt.parse(question)
        question, spans = parsed.caption, [of_phrase[0] for of_phrase in parsed.spans]
    else:
        spans = question_phrases(question, extractor)
    prompt = Prompt.from_caption(question, [[span] for span in spans], kind="question")
    return prompt.left_open() if ground_answer else prompt


def read_caption(text: str, backend: str = "rules") -> Prompt:
    """A caption that a model has written, with its noun phrases; it may have none, or be empty.

    Raises:
        UsageError: an unknown back end.
    """
    spans = [s for s in noun_phrase_extractor(backend)(text) if span_problem(text, s) is None]
    return Prompt.from_caption(text, [[span] for span in spans], kind="caption")


def _parts(text: str) -> list[Span]:
    """Where the names or sentences of a text are, without the white space around them."""
    edges = [0, *(edge for match in _SEPARATOR.finditer(text) for edge in match.span()), len(text)]
    parts = []
    for start, end in zip(edges[::2], edges[1::2]):
        part = text[start:end]
        if part.strip():
            start += len(part) - len(part.lstrip())
            parts.append((start, start + len(part.strip())))
    return parts


def _words(text: str) -> list[str]:
    return [match.group().lower() for match in WORD.finditer(text)]


def _is_caption(text: str, parts: list[list[str]]) -> bool:
    """Whether a text is more than a list of names; `parts`: the words of each of its parts."""
    if _LISTED.search(text):
        return any(_has_finite_verb(words) for words in parts)
    a_dog = len(parts) == 1 and len(parts[0]) > 1 and parts[0][0] in lists.ARTICLES
    return a_dog or any(_is_sentence(words) for words in parts)


def _is_sentence(words: list[str]) -> bool:
    """Whether these are more than a name: "a man with red hair", "person on a bike"."""
    if _has_finite_verb(words):
        return True
    if words[0] in lists.IMPERATIVES:
        return len(words) > 1
    if words[0] in lists.ARTICLES:
        return any(ends_phrase(words, index) for index in range(1, len(words) - 1))
    articles = [index for index, word in enumerate(words) if index and word in lists.ARTICLES]
    return any(ends_phrase(words, index - 1) for index in articles)


def _has_finite_verb(words: list[str]) -> bool:
    return any(_is_finite_verb(words, index) for index in range(len(words)))


def _is_finite_verb(words: list[str], index: int) -> bool:
    """ "The dog is", "rides a horse", "sit on the sofa"; not "who is running", which is said of a
    person that is a class."""
    word, following = words[index], words[index + 1 : index + 3]
    if word in lists.FINITE:
        return index == 0 or words[index - 1] not in ("who", "which", "that")
    if not index or not following or word not in lists.VERBS:
        return False
    on_the = following[0] in lists.PREPOSITIONS and following[-1] in lists.ARTICLES
    return following[0] in lists.ARTICLES or (word in lists.POSTURES and on_the)


def _without_article(part: str) -> Span:
    words = list(WORD.finditer(part))
    first = 1 if len(words) > 1 and words[0].group().lower() in lists.ARTICLES else 0
    return (words[first].start() if words else 0, len(part))


def _classes(text: str, parts: list[Span], masked: str) -> ClassNames:
    names = [text[start:end] for start, end in parts]
    for name in names:
        clean_name(name)  # one that cannot be asked for is refused before there is a model
    several = [name for name in names if {"and", "or"} & set(_words(name))]
    if several:
        _warn(
            f"asked for as one class each: {_quoted(several)}. If they are several, put commas "
            "between them, or mark them with [brackets]"
        )
    starts = [start for start, _ in parts[1:]]
    behind = [masked[end:start] for (_, end), start in zip(parts, [*starts, len(masked)])]
    return _with_synonyms(names, behind)


def _with_synonyms(names: list[str], behind: list[str]) -> ClassNames:
    """The names as classes, where semicolons and commas separate them and nothing else does.

    Args:
        behind: the separators behind each name.
    """
    ends_class = [any(mark in separators for mark in _SEMICOLONS) for separators in behind]
    ends_word = [any(mark in separators for mark in _COMMAS) for separators in behind[:-1]]
    inner = list(zip(ends_class, ends_word))
    synonyms = any(word and not end for end, word in inner)
    if not any(ends_class) or not synonyms or not all(map(any, inner)):
        return names
    classes: list[list[str]] = [[]]
    for name, end in zip(names, ends_class):
        classes[-1].append(name)
        classes += [[]] if end else []
    one_each = " and ".join(f"({_quoted(words)})" for words in classes if len(words) > 1)
    _warn(f"one class each, between semicolons: {one_each}. To ask for classes put commas alone")
    return [words[0] if len(words) == 1 else words for words in classes if words]


def _caption(text: str, spans: list[Span]) -> Prompt:
    """The caption with these phrases; what is not in them is said, function words aside."""
    if not spans:
        raise PromptError(
            f"no noun phrase found in {text!r}: mark what to look for with brackets, like "
            "'a [red kite] above a [dog]'"
        )
    small = lists.DETERMINERS | lists.PREPOSITIONS | lists.FUNCTION_WORDS | lists.AUXILIARIES
    left_out = [
        match.group()
        for match in WORD.finditer(text)
        if match.group()[0].isalnum()
        and match.group().lower() not in small
        and not any(start <= match.start() < end for start, end in spans)
    ]
    prompt = Prompt.from_caption(text, [[span] for span in spans])
    if left_out:
        _warn(
            f"the caption {printable(repr(text))} is asked for {_quoted(prompt.names)}, and not "
            f"for {_quoted(left_out)}: mark other phrases with [brackets], or give class names "
            "between commas"
        )
    return prompt


def _quoted(names: Sequence[str]) -> str:
    return printable(", ".join(repr(name) for name in names))
