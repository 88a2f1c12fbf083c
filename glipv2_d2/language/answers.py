"""Answers of visual question answering: the form in which they are compared, soft scores, lists."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..errors import DataError

__all__ = ["agreement", "normalize_answer", "read_answers", "soft_scores"]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
# The official script's look-behind for a digit is malformed and always holds.
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # it hands re.UNICODE, which is 32, to `sub` as the count
_NUMBERS = "zero one two three four five six seven eight nine ten".split()
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
# Each is also meant where one of its apostrophes is missing.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
""".split()
_REPAIRED = {
    text[:i] + text[i + 1 :]: text
    for text in _CONTRACTIONS
    for i, character in enumerate(text)
    if character == "'"
} | {"somebody'd": "somebodyd"}  # the wrong way round in the official table


@lru_cache(1 << 18)
def normalize_answer(answer: str) -> str:
    """The form in which VQAv2's official evaluation compares answers.

    Punctuation is removed where any of its kind touches a space or where the text has a comma
    between digits, and else becomes a space; periods that no digit follows are removed. Then lower
    case, number words as digits, no articles, apostrophes in contractions. The details are those of
    `processPunctuation` and `processDigitArticle` of the official `vqaEval.py`, its mistakes too.
    """
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    joined = _DIGIT_COMMA_DIGIT.search(answer) is not None
    text = answer
    for mark in _PUNCTUATION:
        touches_space = mark + " " in answer or " " + mark in answer
        text = text.replace(mark, "" if joined or touches_space else " ")
    text = _PERIOD.sub("", text, count=_MOST_PERIODS)
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_REPAIRED.get(word, word) for word in words if word not in _ARTICLES)


def agreement(matches: int, people: int) -> float:
    """How right an answer is that so many of so many people gave, 0 ... 1.

    VQA's accuracy: three others who agree make an answer right, averaged over leaving out each of
    the people. Of ten people 0, 1, 2, 3, 4 who agree give 0, 0.3, 0.6, 0.9, 1. Where there are
    fewer than four people, as many as can agree make it right.
    """
    needed = max(min(3, people - 1), 1)
    among_others = min(1.0, (matches - 1) / needed) if people > 1 else 1.0
    with_all = min(1.0, matches / needed)
    return (matches * among_others + (people - matches) * with_all) / people


def soft_scores(human_answers: Sequence[str]) -> dict[str, float]:
    """The answers that people gave to a question, normalized, with the `agreement` on each.

    It is what the evaluation will give for them. The widely used script (compute_softscore.py)
    compares the answers as they were typed with a list of normalized ones, so that "2 dogs." does
    not count for "2 dogs".
    """
    counts = Counter(map(normalize_answer, human_answers))
    return {answer: agreement(count, len(human_answers)) for answer, count in counts.items()}


def read_answers(answers: str | os.PathLike | Sequence[str]) -> tuple[str, ...]:
    """The answer of each class of a VQA head.

    Args:
        answers: the list itself, or a json file with it: `["yes", ...]` or `{"0": "yes", ...}`
            (label2ans), or `{"yes": 0, ...}` (ans2label) in any order. One of the answers may be
            empty, as in the list that LXMERT published for VQAv2.

    Raises:
        DataError: the file is missing or no such json, there are fewer than two answers, one is
            there twice, or a class between the first and the last has none.
    """
    if isinstance(answers, str | os.PathLike):
        where = f"the answer list {os.fspath(answers)!r}"
        content = _load(answers, where)
    else:
        where, content = "the answer list", list(answers)
    by_class = _by_class(content, where)
    if not all(isinstance(answer, str) for answer in by_class):
        other = next(answer for answer in by_class if not isinstance(answer, str))
        raise DataError(f"{where}: {other!r} is no text")
    twice = [answer for answer, count in Counter(by_class).items() if count > 1]
    if twice:
        raise DataError(f"{where} has {twice[0]!r} twice: an answer is one class")
    if len(by_class) < 2:
        raise DataError(f"{where} has {len(by_class)} answers: there is nothing to choose from")
    return tuple(by_class)


def _load(path: str | os.PathLike, where: str) -> Any:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except FileNotFoundError:
        raise DataError(
            f"{where} is not there: `python datasets/prepare_vqa_answers.py` makes one"
        ) from None
    except ValueError as error:  # no json, or no UTF-8
        raise DataError(f"{where} is no valid json: {error}") from error


def _by_class(content: Any, where: str) -> list[Any]:
    """The answers in the order of their classes."""
    if isinstance(content, list):
        return content
    if not isinstance(content, Mapping):
        raise DataError(f"{where} is neither a list of answers nor a mapping of answers to numbers")
    if all(isinstance(value, str) for value in content.values()):  # {"0": "yes"}
        pairs = [(key, answer) for key, answer in content.items()]
    else:
        pairs = [(number, answer) for answer, number in content.items()]
    ordered = {str(number): answer for number, answer in pairs}
    missing = [str(i) for i in range(len(pairs)) if str(i) not in ordered]
    if missing:
        raise DataError(
            f"{where} has {len(pairs)} answers but none with the number {missing[0]}: the numbers "
            f"must be 0 ... {len(pairs) - 1}, each once"
        )
    return [ordered[str(i)] for i in range(len(pairs))]
