"""Annotations are checked when they are loaded; each error names the file, record and field."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode

from glipv2_d2.structures import span_problem

Record = dict[str, Any]
INVALID = ("raise", "drop")


class DataError(ValueError):
    """Annotations that cannot be trained on."""


class _Invalid(Exception):
    """One invalid annotation; turned into a DataError or a count by check_records."""


def check_records(
    records: Sequence[Record],
    dataset_name: str,
    *,
    source: str | None = None,
    num_classes: int | None = None,
    invalid: str = "raise",
    check_files: bool = False,
) -> list[Record]:
    """Validate the records of a data set.

    A box that lies partly outside its image is clipped; how many is logged in one line. A box
    that lies wholly outside, is reversed, has no area or is not four finite numbers, an unknown
    class, or a span that is out of range or begins inside a word is an error.

    Args:
        records: Detectron2 dicts; a record with ``caption`` is a grounding record.
        dataset_name: for the messages.
        source: the annotation file, for the messages.
        num_classes: how many classes a detection record may name; None: not checked.
        invalid: ``"raise"``, or ``"drop"``: leave invalid annotations out and log their number
            and the first of them (COCO train2017 has two boxes without area, Objects365 many).
        check_files: also look whether each image file is there.

    Returns:
        The records; those that had to be changed are copies.

    Raises:
        DataError: with file, record, annotation and field.
    """
    if invalid not in INVALID:
        raise ValueError(f"invalid must be one of {INVALID}, got {invalid!r}")
    log = logging.getLogger(__name__)
    where = f"{source or 'data set'} ({dataset_name})" if source else f"data set {dataset_name!r}"
    if not len(records):
        raise DataError(f"{where} has no images")
    result, clipped, dropped, first = [], 0, 0, ""
    for record in records:
        place = f"{where}: image {record.get('image_id')!r} ({record.get('file_name')})"
        _check_image(record, place, check_files)
        kept, changed = [], False
        for index, annotation in enumerate(record.get("annotations", ())):
            label = annotation.get("id")
            spot = f"{place}, annotation {index}" + ("" if label is None else f" (id {label})")
            try:
                checked = _check_annotation(annotation, record, num_classes)
            except _Invalid as error:
                if invalid == "raise":
                    raise DataError(
                        f"{spot}: {error}. Repair the file, or leave such annotations out with "
                        "invalid='drop'"
                    ) from None
                first = first or f"{spot}: {error}"
                dropped += 1
                changed = True
                continue
            if checked is not annotation:
                clipped += 1
                changed = True
            kept.append(checked)
        result.append({**record, "annotations": kept} if changed else record)
    if clipped:
        log.warning("%s: %d boxes that lie partly outside their image were clipped", where, clipped)
    if dropped:
        log.warning("%s: %d invalid annotations left out; the first: %s", where, dropped, first)
    return result


def _check_image(record: Record, place: str, check_files: bool) -> None:
    for field in ("file_name", "height", "width"):
        if not record.get(field):
            raise DataError(f"{place}: the field {field!r} is missing or empty")
    caption = record.get("caption")
    if caption is not None and (not isinstance(caption, str) or not caption.strip()):
        raise DataError(f"{place}: the field 'caption' is empty")
    for phrase in record.get("phrases") or ():
        for start, end in phrase:
            problem = span_problem(caption or "", start, end)
            if problem:
                raise DataError(f"{place}: tokens_positive_eval: {problem}")
    if check_files and not os.path.isfile(record["file_name"]):
        raise DataError(f"{place}: the image file does not exist")


def _check_annotation(annotation: Record, record: Record, num_classes: int | None) -> Record:
    """The annotation itself, or a copy with a clipped box."""
    if "caption" in record:
        _check_spans(annotation, record["caption"])
    else:
        category = annotation.get("category_id")
        if category is None or isinstance(category, bool) or int(category) != category:
            raise _Invalid(f"category_id {category!r} is not an integer")
        if num_classes is not None and not 0 <= category < num_classes:
            raise _Invalid(
                f"category_id {category} is unknown: the data set has {num_classes} classes "
                "(contiguous ids from 0)"
            )
    return _check_box(annotation, record["height"], record["width"])


def _check_spans(annotation: Record, caption: str) -> None:
    spans = annotation.get("spans")
    if not spans:
        raise _Invalid("tokens_positive is missing or empty: the box belongs to no phrase")
    for span in spans:
        if len(span) != 2:
            raise _Invalid(f"tokens_positive {span!r} is not a pair [start, end)")
        problem = span_problem(caption, span[0], span[1])
        if problem:
            raise _Invalid(f"tokens_positive: {problem} (caption {caption[:80]!r})")


def _check_box(annotation: Record, height: int, width: int) -> Record:
    box, mode = annotation.get("bbox"), annotation.get("bbox_mode")
    if mode not in (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS):
        raise _Invalid(f"bbox_mode {mode!r} is neither XYWH_ABS nor XYXY_ABS")
    try:
        a, b, c, d = (float(x) for x in box)
    except (TypeError, ValueError):
        raise _Invalid(f"bbox {box!r} is not four numbers") from None
    if not all(map(math.isfinite, (a, b, c, d))):
        raise _Invalid(f"bbox {list(box)} holds NaN or infinity")
    x1, y1 = a, b
    x2, y2 = (a + c, b + d) if mode == BoxMode.XYWH_ABS else (c, d)
    if x2 < x1 or y2 < y1:
        raise _Invalid(f"bbox {list(box)} is reversed (negative width or height)")
    if x2 == x1 or y2 == y1:
        raise _Invalid(f"bbox {list(box)} has no area")
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise _Invalid(f"bbox {list(box)} lies wholly outside its {width}x{height} image")
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return annotation
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    corner = [x2 - x1, y2 - y1] if mode == BoxMode.XYWH_ABS else [x2, y2]
    return {**annotation, "bbox": [x1, y1, *corner]}
