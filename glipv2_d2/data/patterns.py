"""When most of a data set cannot be used, or its boxes mean something else: a run that stops."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..errors import DataError
from .entries import NUMBERS
from .report import Record, Report

Box = Sequence[float]  # four

# The share of a data set's annotations, or records, that may be left out or look wrong. More than
# that is no accident here and there but another format.
MOST_LEFT_OUT = 0.5
# The boxes of so many records, evenly spread, are looked at for patterns.
LOOKED_AT = 2000
# So far, in parts of its side, a box of the right format does not reach beyond its image; and such
# a share of all boxes does so where corners are taken for sizes (three of four, if they lie
# anywhere), and not just one or two.
_FAR, _SOME, _FEW = 0.05, 0.1, 2

_NOT_OURS = "unknown image"  # annotations of images that somebody took out of the file
_REMEDIES = {
    "unknown class": "'category_id' must be the number in 'id' of one of 'categories', not a name; "
    "in ODVG 'label' one of the label map",
    _NOT_OURS: "'image_id' must be the 'id' of one of 'images'",
    "box not normalized": "divide x and width by the image's width, y and height by its height",
    "shape without a box": "points and lines have none: draw boxes, polygons or masks",
    "unlisted class": "is the list of class names that of these labels?",
    "missing image file": "is the image folder the right one?",
}
_BOXES = (
    "boxes are [x, y, width, height] of COCO's and MDETR's format, or [x1, y1, x2, y2], in pixels "
    "of the image whose size the file gives"
)


def refuse_patterns(records: Sequence[Record], where: str) -> None:
    """Stop if boxes are normalized, or corners and sizes are confused.

    Such boxes are valid one by one: normalized ones have less than a pixel, and a corner that is
    taken for a size gives a box that is clipped at the border of its image.

    Args:
        records: in Detectron2's form; `LOOKED_AT` of them are looked at.
        where: names the data set in the message.

    Raises:
        DataError: with the pattern and the remedy.
    """
    step = max(len(records) // LOOKED_AT, 1)
    boxes = list(_boxes(records[::step]))
    problem = boxes and (_normalized(boxes) or _confused(boxes))
    if problem:
        raise DataError(f"{where}: {problem}")


def refuse_what_is_left(records: Sequence[Record], report: Report, where: str) -> None:
    """Stop if less than half of a data set is left, or nothing to learn or to count.

    Of records only those of the most frequent fault are counted. Annotations of images that are
    not in the file do not count: somebody left these images out on purpose.

    Args:
        records: what is left, in Detectron2's form.
        report: what was left out.
        where: names the data set in the message.

    Raises:
        DataError: with the most frequent fault and its remedy.
    """
    left = [a for record in records for a in record.get("annotations", ())]
    faults = {k: n for k, (n, _) in report.kinds.items() if k not in report.no_faults}
    most = max(faults, key=lambda kind: faults[kind], default="")
    lost = report.annotations - faults.get(_NOT_OURS, 0)
    if not left:
        lost = report.annotations
    share = None
    if lost > MOST_LEFT_OUT * (lost + len(left)):
        share = f"{lost} of {lost + len(left)} boxes"
    elif (count := min(report.records, faults.get(most, 0))) > MOST_LEFT_OUT * (
        count + len(records)
    ):
        share = f"{count} of {count + len(records)} records"
    if share:
        remedy = _REMEDIES.get(most, _BOXES if "box" in most else "repair the file")
        raise DataError(f"{where}: {share} cannot be used: {report.summary()}. Remedy: {remedy}")
    if left and all(annotation.get("iscrowd", 0) for annotation in left):
        raise DataError(
            f"{where}: all {len(left)} boxes have 'iscrowd' 1, which marks regions that are "
            "neither trained on nor counted. Remedy: set it to 0 where a box is one object"
        )


def _boxes(records: Sequence[Record]) -> Iterator[tuple[Box, int, float, float]]:
    """(box, its mode, width, height of the image) of all that are four finite numbers."""
    for record in records:
        height: Any = record.get("height")
        width: Any = record.get("width")
        annotations = record.get("annotations")
        if not _numbers((height, width)) or not isinstance(annotations, (list, tuple)):
            continue
        for annotation in annotations:
            box = annotation.get("bbox") if isinstance(annotation, dict) else None
            box = box.tolist() if isinstance(box, np.ndarray) else box
            if isinstance(box, (list, tuple)) and len(box) == 4 and _numbers(box):
                yield box, annotation.get("bbox_mode"), width, height


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(x, NUMBERS) and math.isfinite(x) for x in values)


def _normalized(boxes: list[tuple[Box, int, float, float]]) -> str | None:
    count = sum(
        max(box) <= 1 and min(box) >= 0 and box[2] > 0 and min(width, height) > 1
        for box, _, width, height in boxes
    )
    if count <= MOST_LEFT_OUT * len(boxes):
        return None
    return (
        f"{count} of {len(boxes)} boxes that were looked at lie between 0 and 1, the first: "
        f"{list(boxes[0][0])}. They look normalized. Remedy: multiply x and width by the width of "
        "the image, y and height by its height"
    )


def _confused(boxes: list[tuple[Box, int, float, float]]) -> str | None:
    """Corners where sizes are expected, or the other way round."""
    for mode, written, expected, remedy in (
        (BoxMode.XYWH_ABS, "corners [x1, y1, x2, y2]", "[x, y, width, height]",
         "width = x2 - x1, height = y2 - y1"),
        (BoxMode.XYXY_ABS, "[x, y, width, height]", "corners [x1, y1, x2, y2]",
         "x2 = x1 + width, y2 = y1 + height"),
    ):  # fmt: skip
        here = [(box, width, height) for box, m, width, height in boxes if m == mode]
        wrong = [b for b in here if _misfit(*b, mode)]
        other = BoxMode.XYXY_ABS if mode == BoxMode.XYWH_ABS else BoxMode.XYWH_ABS
        if len(wrong) > max(_SOME * len(here), _FEW) and not any(_misfit(*b, other) for b in here):
            box, width, height = wrong[0]
            return (
                f"{len(wrong)} of {len(here)} boxes that were looked at do not fit into their "
                f"image as {expected}, and all of them do as {written}; the first: {list(box)} in "
                f"an image of {width}x{height}. Remedy: {remedy}"
            )
    return None


def _misfit(box: Box, width: float, height: float, mode: int) -> bool:
    """Whether a box is reversed, or reaches far beyond its image."""
    a, b, c, d = box
    x2, y2 = (a + c, b + d) if mode == BoxMode.XYWH_ABS else (c, d)
    far_x, far_y = _FAR * width, _FAR * height
    outside = a < -far_x or b < -far_y or x2 > width + far_x or y2 > height + far_y
    return outside or x2 <= a or y2 <= b
