"""What is known about an image-text pair once it is labeled: the one record of all formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["LabeledPair"]


class LabeledPair(NamedTuple):
    """An image-text pair with its boxes, or why it has none; of json's types.

    Attributes:
        key: its name within the shard.
        caption: what the spans point into.
        height, width: of the upright image in pixels.
        phrases: the `[start, end)` characters of each noun phrase, in the order of the caption.
        boxes: `[phrase, x0, y0, x1, y1, score]`, the best score first: index of the phrase, and
            pixels of the image.
        error: why the pair could not be labeled, "kind: reason"; None: it is labeled.
        original: the caption of the pair where `caption` was written by the teacher.
    """

    key: str
    caption: str
    height: int
    width: int
    phrases: list[list[int]]
    boxes: list[list[Any]]
    error: str | None = None
    original: str | None = None

    @classmethod
    def failed(cls, key: str, kind: str, what: str, caption: str = "") -> LabeledPair:
        """A pair that could not be labeled."""
        return cls(key, caption, 0, 0, [], [], f"{kind}: {what}")

    def by_phrase(self) -> Iterator[tuple[list[int], list[list[float]], list[float]]]:
        """(span, boxes, scores) of each phrase that has a box."""
        for number, span in enumerate(self.phrases):
            if found := [box for box in self.boxes if box[0] == number]:
                yield span, [box[1:5] for box in found], [box[5] for box in found]
