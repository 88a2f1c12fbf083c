"""Asks questions about scenes whose answer the picture decides, and the question alone does not.

All are true and unambiguous by construction (`relations.py`). The answers of each wording are kept
equally frequent over a split, as far as its scenes have them; what is denied ("is there a red
star?") shares its color with one object and its shape with another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from ..data.datasets.scenes import COLORS, HELD_OUT_PAIRS, PAIRS_OF_SPLIT, SHAPES
from ..language.spans import Span
from .captions import PLURALS
from .relations import MARGIN, RELATIONS, SUPERLATIVES, holds, plainly_first
from .truth import Scene

MOST_COUNTED = 4  # larger numbers are too rare to be an answer
Pair = tuple[str, str]  # color and shape
Phrase = tuple[str, list[int]]  # words, and the things that they mean


class Question(NamedTuple):
    """A question about a scene.

    Attributes:
        kind: "color", "shape", "count", "yes/no" or "relation".
        wording: the question without its landmark; the answers are balanced within it.
        parts: the words in order; those that name things with the indices of these.
        answer: of `SCENES_ANSWERS`.
        things: indices of what the answer is about; empty where it denies.
        denied: the color and shape that are not there, if it is such a question.
    """

    kind: str
    wording: str
    parts: tuple[str | Phrase, ...]
    answer: str
    things: list[int]
    denied: Pair | None = None

    @property
    def text(self) -> str:
        """The question."""
        return " ".join(p if isinstance(p, str) else p[0] for p in self.parts) + "?"

    @property
    def phrases(self) -> list[tuple[Span, list[int]]]:
        """The [start, end) characters of each phrase, and the things that it means."""
        result, start = [], 0
        for part in self.parts:
            words = part if isinstance(part, str) else part[0]
            if not isinstance(part, str):
                result.append(((start, start + len(words)), part[1]))
            start += len(words) + 1
        return result


# Gives all questions of one form about a scene; takes the pairs that may be named, too.
Form = Callable[[Scene, Sequence[Pair]], Iterator[Question]]


def ask_about(
    scenes: Sequence[Scene], split: str, per_scene: int, rng: np.random.Generator
) -> list[list[Question]]:
    """Choose the questions of a split.

    The kinds of one scene differ. In the split `novel` a question is about a held-out pair
    wherever there is such a question.

    Args:
        scenes: of the whole split.
        split: "train", "val" or "novel"; in the first two, held-out pairs are not even denied.
        per_scene: the number of questions, 5 at most.
        rng: draws what is left open.

    Returns:
        The questions of each scene, in the order of `scenes`.
    """
    asked: Counter = Counter()
    result: list[list[Question]] = [[] for _ in scenes]
    for number in rng.permutation(len(scenes)):
        for kind in rng.permutation(list(_FORMS)):
            if len(result[number]) == per_scene:
                break
            possible = _possible(scenes[number], kind, split, rng)
            if possible:
                result[number].append(_least_asked(possible, asked, rng))
    return result


def _possible(scene: Scene, kind: str, split: str, rng: np.random.Generator) -> list[Question]:
    """The questions of one form of a kind; none if the scene has no form of it."""
    forms, weights = zip(*_FORMS[kind].items())
    order = rng.choice(len(forms), len(forms), replace=False, p=weights)
    of_form = [list(forms[i](scene, PAIRS_OF_SPLIT[split])) for i in order]
    if split == "novel":
        held_out = [[q for q in some if _is_about_held_out(q, scene)] for some in of_form]
        of_form = held_out + of_form
    return next(filter(None, of_form), [])


def _least_asked(possible: list[Question], asked: Counter, rng: np.random.Generator) -> Question:
    """The one whose answer is the least frequent so far, to its wording and then to its kind."""

    def counted(question: Question) -> list:
        of_kind = (question.kind, question.answer)
        return [(question.wording, question.answer), of_kind, question.text]

    order = rng.permutation(len(possible))
    chosen = min((possible[i] for i in order), key=lambda q: [asked[key] for key in counted(q)])
    asked.update(counted(chosen))
    return chosen


def _is_about_held_out(question: Question, scene: Scene) -> bool:
    named = [i for _, things in question.phrases for i in things]
    pairs = {scene.things[i].pair for i in question.things or named}
    return not pairs.isdisjoint(HELD_OUT_PAIRS) or question.denied in HELD_OUT_PAIRS


class _Family(NamedTuple):
    """All things of one shape, whose color is asked, or of one color, whose shape is asked."""

    opening: str
    noun: str
    members: list[int]
    answers: list[str]  # of each member

    @property
    def varied(self) -> bool:
        """Whether the answer depends on which member is meant."""
        return len(set(self.answers)) > 1


def _families(scene: Scene, kind: str) -> Iterator[_Family]:
    for value in SHAPES if kind == "color" else COLORS:
        if kind == "color":
            members, noun = scene.where(shape=value), value
        else:
            members, noun = scene.where(color=value), f"{value} object"
        if members:
            answers = [getattr(scene.things[i], kind) for i in members]
            yield _Family(f"what {kind} is the", noun, members, answers)


def _only_one(kind: str) -> Form:
    """The form "what color is the star?", where there is one star."""

    def form(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
        for opening, noun, members, answers in _families(scene, kind):
            if len(members) == 1:
                wording = f"{opening} {noun}"
                yield Question(kind, wording, (opening, (noun, members)), answers[0], members)

    return form


def _superlative(kind: str) -> Form:
    """The form "what color is the leftmost star?", where there are stars of two colors."""

    def form(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
        for family in filter(lambda f: f.varied, _families(scene, kind)):
            centers = np.array([scene.things[i].center for i in family.members])
            for word, (axis, sign) in SUPERLATIVES.items():
                first = plainly_first(sign * centers[:, axis], MARGIN)
                if first is not None:
                    name, meant = f"{word} {family.noun}", [family.members[first]]
                    parts = (family.opening, (name, meant))
                    wording = f"{family.opening} {family.noun}, extreme"
                    yield Question(kind, wording, parts, family.answers[first], meant)

    return form


def _beside(kind: str) -> Form:
    """The form "what color is the star left of the blue ring?": there are stars of two colors."""

    def form(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
        for family in filter(lambda f: f.varied, _families(scene, kind)):
            for landmark, name in _unique(scene):
                if landmark in family.members:
                    continue  # it would rule out an answer
                for relation in RELATIONS:
                    sides = [_holds(scene, i, relation, landmark) for i in family.members]
                    if sides.count(True) == 1 and sides.count(False) == len(sides) - 1:
                        chosen = sides.index(True)
                        meant = [family.members[chosen]]
                        there = (f"{relation} the", (name, [landmark]))
                        parts = (family.opening, (family.noun, meant), *there)
                        wording = f"{family.opening} {family.noun} {relation}"
                        yield Question("relation", wording, parts, family.answers[chosen], meant)

    return form


def _side(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
    """The form "is the red star left or right of the blue ring?", likewise above or below."""
    for (subject, name), (landmark, other) in permutations(_unique(scene), 2):
        for sides in (("left of", "right of"), ("above", "below")):
            for relation in sides:
                if _holds(scene, subject, relation, landmark):
                    word = relation.split()[0]
                    middle = f"{sides[0].split()[0]} or {sides[1]} the"
                    parts = ("is the", (name, [subject]), middle, (other, [landmark]))
                    wording = f"is the {name} {middle}"
                    yield Question("relation", wording, parts, word, [subject])


def _stands(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
    """The form "is the red star left of the blue ring?"."""
    for (subject, name), (landmark, other) in permutations(_unique(scene), 2):
        for relation in RELATIONS:
            side = _holds(scene, subject, relation, landmark)
            if side is None:
                continue
            parts = ("is the", (name, [subject]), f"{relation} the", (other, [landmark]))
            answer, things = ("yes", [subject]) if side else ("no", [])
            yield Question("yes/no", f"is the {name} {relation}", parts, answer, things)


def _exists(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
    """The form "is there a red star?"; if not, something red is there, and a star."""
    for color, shape in pairs:
        name = f"{color} {shape}"
        things = scene.where(color, shape)
        parts = ("is there a", (name, things))
        if things:
            yield Question("yes/no", name, parts, "yes", things)
        elif scene.where(color=color) and scene.where(shape=shape):
            yield Question("yes/no", name, parts, "no", [], denied=(color, shape))


def _count(nouns: Callable[[Sequence[Pair]], Iterable]) -> Form:
    """The form "how many stars are there?"; nouns: (plural, color or None, shape or None)."""

    def form(scene: Scene, pairs: Sequence[Pair]) -> Iterator[Question]:
        for noun, color, shape in nouns(pairs):
            things = scene.where(color, shape)
            if len(things) > MOST_COUNTED:
                continue
            denied = (color, shape) if not things and color and shape else None
            if denied and not (scene.where(color=color) and scene.where(shape=shape)):
                continue
            parts = ("how many", (noun, things), "are there")
            yield Question("count", f"how many {noun}", parts, str(len(things)), things, denied)

    return form


def _holds(scene: Scene, subject: int, relation: str, other: int) -> bool | None:
    return holds(scene.things[subject].center, relation, scene.things[other].center)


def _unique(scene: Scene) -> list[tuple[int, str]]:
    """The things that their color and shape tell from all others, with their names."""
    return [(m[0], " ".join(pair)) for pair, m in scene.groups().items() if len(m) == 1]


# kind: form: how often it is tried first.
_FORMS: dict[str, dict[Form, float]] = {
    "color": {_only_one("color"): 0.5, _superlative("color"): 0.5},
    "shape": {_only_one("shape"): 0.5, _superlative("shape"): 0.5},
    "count": {
        _count(lambda _: ((PLURALS[shape], None, shape) for shape in SHAPES)): 0.4,
        _count(lambda _: ((f"{color} objects", color, None) for color in COLORS)): 0.4,
        _count(lambda pairs: ((f"{c} {PLURALS[s]}", c, s) for c, s in pairs)): 0.2,
    },
    "yes/no": {_exists: 0.7, _stands: 0.3},
    "relation": {_beside("color"): 0.3, _beside("shape"): 0.3, _side: 0.4},
}
