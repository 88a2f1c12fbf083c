"""What is in a scene, read back from the COCO json of a split: colors, shapes and places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..data.datasets.scenes import CATEGORY_IDS

_PAIRS = {number: pair for pair, number in CATEGORY_IDS.items()}


class Thing(NamedTuple):
    """One object of a scene.

    Attributes:
        color, shape: of the lists in `data.datasets.scenes`.
        center: x and y of the box of its visible part, as fractions of the image.
        area: visible pixels.
    """

    color: str
    shape: str
    center: tuple[float, float]
    area: float

    @property
    def pair(self) -> tuple[str, str]:
        """Color and shape."""
        return self.color, self.shape


class Scene(NamedTuple):
    """An image and its objects.

    Attributes:
        image: the entry of the COCO json.
        annotations: the entries of the COCO json.
        things: one for each annotation. At least 55 % of every object is visible.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    things: list[Thing]

    def where(self, color: str | None = None, shape: str | None = None) -> list[int]:
        """Indices of the things of a color, of a shape, or of both."""
        things = enumerate(self.things)
        return [i for i, t in things if color in (None, t.color) and shape in (None, t.shape)]

    def groups(self) -> dict[tuple[str, str], list[int]]:
        """Indices of the things of each color and shape, in the order of the largest of each."""
        result: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i in sorted(range(len(self.things)), key=lambda i: -self.things[i].area):
            result[self.things[i].pair].append(i)
        return dict(result)


def scenes_of(content: Mapping[str, Any]) -> list[Scene]:
    """The scenes of a detection json, `annotations/{split}.json`."""
    by_image: dict[int, list[dict]] = defaultdict(list)
    for entry in content["annotations"]:
        by_image[entry["image_id"]].append(entry)
    return [
        Scene(image, entries, [_thing(image, entry) for entry in entries])
        for image in content["images"]
        for entries in [by_image[image["id"]]]
    ]


def _thing(image: dict, entry: dict) -> Thing:
    x, y, width, height = entry["bbox"]
    center = ((x + width / 2) / image["width"], (y + height / 2) / image["height"])
    return Thing(*_PAIRS[entry["category_id"]], center, entry["area"])
