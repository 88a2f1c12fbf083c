"""Writes captions of a scene, true and unambiguous by construction, with the spans of phrases.

A phrase's span covers its adjectives and its noun ("small red star"), not its article or number.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.datasets.scenes import SHAPES
from .layout import REFERENCE_SIZE
from .relations import MARGIN, RELATIONS, SUPERLATIVES, holds, plainly_first
from .render import SceneObject

PLURALS = {shape: f"{shape}es" if shape == "cross" else f"{shape}s" for shape in SHAPES}
SMALL_BELOW, LARGE_ABOVE = 34.0, 50.0  # longer side of an object at REFERENCE_SIZE
_SIZE_GAP = 8.0  # an object that is "the small one" is smaller than its like by this much...
_VISIBLE_GAP = 4.0  # ... and its visible part than theirs by this much
NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}


@dataclass
class Caption:
    """A text and, per index of an object, the [start, end) character spans that mean it."""

    text: str = ""
    spans: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, words: str) -> None:
        """Append words that mean no object."""
        self.text += (" " if self.text and not words.startswith(",") else "") + words

    def add_phrase(self, words: str, members: list[int]) -> None:
        """Append a phrase that means the objects `members`."""
        start = len(self.text) + (1 if self.text else 0)
        self.add(words)
        for member in members:
            self.spans[member].append((start, start + len(words)))


def list_groups(caption: Caption, groups: Sequence[tuple[tuple[str, str], list[int]]]) -> None:
    """Append a list: "a green heart, two yellow circles and a red star".

    Args:
        caption: takes the words.
        groups: color and shape, and the indices of all objects that have them.
    """
    for position, ((color, shape), members) in enumerate(groups):
        if position:
            caption.add("and" if position == len(groups) - 1 else ",")
        caption.add(NUMBERS.get(len(members), "many"))
        noun = shape if len(members) == 1 else PLURALS[shape]
        caption.add_phrase(f"{color} {noun}", members)


class CaptionWriter:
    """Writes captions of one scene.

    Args:
        objects: the scene's objects, with `visible` set.
        size: height and width of the image in pixels.
    """

    def __init__(self, objects: list[SceneObject], size: int):
        self.objects = objects
        boxes = np.array([item.box for item in objects], dtype=np.float64)
        self.centers = (boxes[:, :2] + boxes[:, 2:] / 2.0) / size
        scale = REFERENCE_SIZE / size
        self.sizes = np.array([item.full_extent for item in objects]) * scale
        self.visible_sizes = boxes[:, 2:].max(axis=1) * scale
        self.groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, item in enumerate(objects):
            self.groups[item.pair].append(index)

    def write(self, rng: np.random.Generator) -> Caption:
        """Write a random caption; falls back on an inventory where a template does not apply."""
        kind = rng.random()
        templates = (
            (0.35, self.relation),
            (0.45, self.two_relations),
            (0.55, self.superlative),
            (0.75, self.attributes),
        )
        chosen = next((template for below, template in templates if kind < below), self.inventory)
        return chosen(rng) or self.inventory(rng)

    def inventory(self, rng) -> Caption:
        """List objects, e.g. "a green heart, two yellow circles and a red star"."""
        groups = list(self.groups.items())
        count = int(rng.integers(1, min(4, len(groups)) + 1))
        chosen = [groups[i] for i in rng.permutation(len(groups))[:count]]
        caption = Caption()
        opening = ("", "", "there is", "a photo of", "this picture shows")[rng.integers(5)]
        if opening == "there is" and len(chosen[0][1]) > 1:
            opening = "there are"
        if opening:
            caption.add(opening)
        list_groups(caption, chosen)
        return caption

    def relation(self, rng) -> Caption | None:
        """Relate two objects, e.g. "the small red star left of the blue ring"."""
        caption = Caption()
        return caption if self._add_relation(rng, caption, used=set()) else None

    def two_relations(self, rng) -> Caption | None:
        """Join two relations about different objects by "and"."""
        caption = Caption()
        used = self._add_relation(rng, caption, used=set())
        if not used:
            return None
        alone = copy.deepcopy(caption)
        caption.add("and")
        return caption if self._add_relation(rng, caption, used) else alone

    def superlative(self, rng) -> Caption | None:
        """Name an extreme, e.g. "the leftmost circle", "the largest green object"."""
        index = int(rng.integers(len(self.objects)))
        noun, like = self._class_of(rng, index)
        if len(like) < 2:
            return None
        if rng.random() < 0.6:
            word = list(SUPERLATIVES)[rng.integers(4)]
            axis, sign = SUPERLATIVES[word]
            first = plainly_first(sign * self.centers[like, axis], MARGIN)
        else:
            word, sign = (("smallest", 1), ("largest", -1))[rng.integers(2)]
            first = plainly_first(sign * self.sizes[like], _SIZE_GAP)
            if first != plainly_first(sign * self.visible_sizes[like], _VISIBLE_GAP):
                first = None
        if first is None:
            return None
        caption = Caption()
        caption.add("the")
        caption.add_phrase(f"{word} {noun}", [like[first]])
        return caption

    def attributes(self, rng) -> Caption:
        """Name attributes, e.g. "all stars and everything red"; phrases may overlap."""
        caption = Caption()
        parts = int(rng.integers(1, 4))
        said: set[str] = set()
        for _ in range(parts):
            item = self.objects[rng.integers(len(self.objects))]
            attribute = ("color", "shape")[rng.integers(2)]
            value = getattr(item, attribute)
            if value in said:
                continue
            if said:
                caption.add("and")
            said.add(value)
            members = [i for i, o in enumerate(self.objects) if getattr(o, attribute) == value]
            self._add_attribute(rng, caption, attribute, value, members)
        return caption

    def _add_attribute(self, rng, caption, attribute, value, members) -> None:
        several = len(members) > 1
        if attribute == "shape":
            caption.add(("all", "the")[rng.integers(2)] if several else "the")
            caption.add_phrase(PLURALS[value] if several else value, members)
        elif rng.random() < 0.5:
            caption.add("everything")
            caption.add_phrase(value, members)
        else:
            caption.add("all" if several else "the only")
            caption.add_phrase(f"{value} object" + ("s" if several else ""), members)

    def _class_of(self, rng, index: int) -> tuple[str, list[int]]:
        """A noun for the object and the indices of everything that the noun fits."""
        item = self.objects[index]
        kind = rng.integers(3)
        if kind == 0:
            fits = [i for i, o in enumerate(self.objects) if o.shape == item.shape]
            return item.shape, fits
        if kind == 1:
            fits = [i for i, o in enumerate(self.objects) if o.color == item.color]
            return f"{item.color} object", fits
        return f"{item.color} {item.shape}", list(self.groups[item.pair])

    def _add_relation(self, rng, caption: Caption, used: set[int]) -> set[int] | None:
        """Append "the X left of the Y"; returns the objects said so far, None if there is none."""
        centers = self.centers
        for _ in range(12):
            subject, other = (int(i) for i in rng.choice(len(self.objects), 2, replace=False))
            if {subject, other} & used:
                continue
            relation = RELATIONS[rng.integers(4)]
            landmark = self._unique_name(rng, other)
            if landmark is None or holds(centers[subject], relation, centers[other]) is not True:
                continue
            name = self._unique_name(rng, subject)
            if name is None:
                # Another one of its kind is there: the relation must clearly fail for that one.
                like = [i for i in self.groups[self.objects[subject].pair] if i != subject]
                if any(holds(centers[i], relation, centers[other]) is not False for i in like):
                    continue
                name = " ".join(self.objects[subject].pair)
            caption.add("the")
            caption.add_phrase(name, [subject])
            caption.add(f"{relation} the")
            caption.add_phrase(landmark, [other])
            return used | {subject, other}
        return None

    def _unique_name(self, rng, index: int) -> str | None:
        """A name that fits this object only, with its size where that is clear; or None."""
        item = self.objects[index]
        name = " ".join(item.pair)
        like = [i for i in self.groups[item.pair] if i != index]
        word = None
        if item.visibility > 0.7:
            if self.sizes[index] < SMALL_BELOW and self._exceeded(index, like, 1.0):
                word = "small"
            if self.sizes[index] > LARGE_ABOVE and self._exceeded(index, like, -1.0):
                word = "large"
        if word is not None and (like or rng.random() < 0.7):
            return f"{word} {name}"
        return None if like else name

    def _exceeded(self, index: int, others: list[int], sign: float) -> bool:
        """Whether all others are plainly larger (sign 1) or smaller (-1), whole and as seen."""
        whole = sign * (self.sizes[others] - self.sizes[index])
        seen = sign * (self.visible_sizes[others] - self.visible_sizes[index])
        return bool((whole > _SIZE_GAP).all() and (seen > _VISIBLE_GAP).all())
