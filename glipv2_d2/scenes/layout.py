"""Chooses what is in a scene and where: the pairs per split and the places of objects."""

from __future__ import annotations

import numpy as np

from ..data.datasets.scenes import BASE_PAIRS, HELD_OUT_PAIRS
from .render import SceneObject, footprint, make_object, tight_box

REFERENCE_SIZE = 192  # the image size that object sizes are stated for
MIN_DIAMETER, MAX_DIAMETER = 22.0, 80.0
MIN_VISIBILITY = 0.55  # of an object's own area, whether cut by the border or by other objects
MAX_OBJECTS = 8
_MIN_OBJECTS = 3
_MIN_INSIDE = 0.7  # of an object's area must lie inside the image

Pair = tuple[str, str]


def sample_base_pairs(rng: np.random.Generator) -> list[Pair]:
    """Choose 3 to 8 pairs that occur in training.

    Half of the objects repeat the color or the shape of an earlier one: a scene in which one
    attribute identifies an object would teach to look at one attribute only.
    """
    count = int(rng.integers(_MIN_OBJECTS, MAX_OBJECTS + 1))
    pairs = [_choose(rng, BASE_PAIRS)]
    while len(pairs) < count:
        kind = rng.random()
        color, shape = _choose(rng, pairs)
        if kind < 0.25:
            pairs.append(_choose(rng, _sharing(color=color)))
        elif kind < 0.5:
            pairs.append(_choose(rng, _sharing(shape=shape)))
        else:
            pairs.append(_choose(rng, BASE_PAIRS))
    return pairs


def sample_novel_pairs(rng: np.random.Generator, index: int) -> list[Pair]:
    """Choose 1 to 3 held-out pairs and their distractors, 8 objects at most.

    Each held-out object meets at least two base pairs of its color and two of its shape.

    Args:
        rng: the image's generator.
        index: number of the image; its first held-out pair goes round by it.
    """
    first = HELD_OUT_PAIRS[index % len(HELD_OUT_PAIRS)]
    kind = rng.random()
    if kind < 0.7:
        novel = [first] if kind < 0.55 else [first, first]
        color, shape = first
        distractors = [_choose(rng, _sharing(color=color)) for _ in range(2)]
        distractors += [_choose(rng, _sharing(shape=shape)) for _ in range(2)]
    else:
        second = _choose(rng, [pair for pair in HELD_OUT_PAIRS if _crosses(first, pair)])
        novel = [first, second] if kind < 0.85 else [first, first, second]
        # The crossings share a color with one held-out object and a shape with the other.
        distractors = 2 * [(first[0], second[1]), (second[0], first[1])]
    room = MAX_OBJECTS - len(novel) - len(distractors)
    for _ in range(int(rng.integers(0, room + 1))):
        color, shape = _choose(rng, novel)
        share = _sharing(color=color) if rng.random() < 0.5 else _sharing(shape=shape)
        distractors.append(_choose(rng, share))
    return novel + distractors


def _choose(rng: np.random.Generator, pairs) -> Pair:
    return pairs[int(rng.integers(len(pairs)))]


def _sharing(color: str | None = None, shape: str | None = None) -> list[Pair]:
    return [p for p in BASE_PAIRS if (color is None or p[0] == color) and shape in (None, p[1])]


def _crosses(first: Pair, second: Pair) -> bool:
    """Whether exchanging their colors gives two base pairs."""
    swapped = ((first[0], second[1]), (second[0], first[1]))
    return all(pair in BASE_PAIRS for pair in swapped)


def place_objects(rng: np.random.Generator, pairs: list[Pair], size: int) -> list[SceneObject]:
    """Place one object per pair, from back to front in random order.

    Every object keeps `MIN_VISIBILITY` of its area; objects of one color do not overlap.

    Args:
        rng: the image's generator.
        pairs: (color, shape) of each object.
        size: image height and width in pixels.

    Returns:
        The objects with `visible` and `visibility` set, from back to front.
    """
    while True:
        order = [pairs[i] for i in rng.permutation(len(pairs))]
        objects = _try_to_place(rng, order, size)
        if objects is not None:
            return objects


def _try_to_place(rng, pairs: list[Pair], size: int) -> list[SceneObject] | None:
    scale = size / REFERENCE_SIZE
    largest = MAX_DIAMETER if len(pairs) <= 5 else 0.8 * MAX_DIAMETER
    visible: list[np.ndarray] = []
    objects: list[SceneObject] = []
    for color, shape in pairs:
        diameter = np.exp(rng.uniform(np.log(MIN_DIAMETER + 2.0), np.log(largest)))
        item = _place_one(rng, color, shape, diameter * scale, objects, visible, size)
        if item is None:
            return None
        objects.append(item)
    for item, pixels in zip(objects, visible):
        item.visible = pixels
        item.visibility = float(pixels.sum() / (item.mask > 0.5).sum())
    return objects


def _place_one(rng, color, shape, diameter, objects, visible, size) -> SceneObject | None:
    """Find a place for a new front object; updates `visible` of all. None if there is no room."""
    smallest = MIN_DIAMETER * size / REFERENCE_SIZE
    for attempt in range(6):
        item = make_object(rng, color, shape, max(smallest, diameter * 0.85**attempt))
        may_overlap = rng.random() < 0.35
        may_be_cut = rng.random() < 0.12
        full = (item.mask > 0.5).sum()
        for _ in range(20):
            _random_position(rng, item, size, may_be_cut)
            covered = footprint(item, size)
            if covered.sum() < _MIN_INSIDE * full:
                continue
            if _acceptable(item, covered, objects, visible, may_overlap):
                for pixels in visible:
                    pixels &= ~covered
                visible.append(covered)
                return item
    return None


def _random_position(rng, item: SceneObject, size: int, may_be_cut: bool) -> None:
    x, y, width, height = tight_box(item.mask > 0.5)
    spare = int(0.25 * item.diameter) if may_be_cut else 0
    item.left = int(rng.integers(-spare, size - width + 1 + spare)) - x
    item.top = int(rng.integers(-spare, size - height + 1 + spare)) - y


def _acceptable(item, covered, objects, visible, may_overlap: bool) -> bool:
    for other, pixels in zip(objects, visible):
        lost = int((pixels & covered).sum())
        if lost == 0:
            continue
        if not may_overlap or other.color == item.color:
            return False
        if int(pixels.sum()) - lost < MIN_VISIBILITY * (other.mask > 0.5).sum():
            return False
    return True
