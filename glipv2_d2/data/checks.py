"""Records are checked when they are loaded; what is wrong is named by file, record and field."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from typing import Any

from detectron2.structures import BoxMode

from ..errors import DataError
from ..language.prompt import MASK, TASKS
from ..language.spans import span_problem
from .entries import NUMBERS, crowd_problem, file_name_problem, plain_annotation
from .patterns import refuse_patterns, refuse_what_is_left
from .report import Record, RecordError, Report

# Height or width of an image; a larger number is an error in the file.
MOST_PIXELS = 1 << 20

_XYWH, _XYXY = _MODES = BoxMode.XYWH_ABS, BoxMode.XYXY_ABS
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Invalid(Exception):
    """One invalid thing: (kind, what), for a `Report`."""


def check_records(
    records: Iterable[Record],
    dataset_name: str,
    *,
    source: str | None = None,
    num_classes: int | None = None,
    invalid: str = "drop",
    check_files: bool = False,
    drop_records: bool = True,
    report: Report | None = None,
) -> list[Record]:
    """Validate the records of a data set.

    A box that lies partly outside its image is clipped and counted. A box that lies wholly
    outside, is reversed, has no area or is not four finite numbers, an unknown class, or a span
    that is out of range or begins inside a word makes its annotation invalid; a polygon or a mask
    that cannot be drawn is left out, and its box stays; a missing field, a caption that is empty
    or not UTF-8, an unknown task, answers without scores, or a missing image file makes the record
    invalid.

    Args:
        records: Detectron2 dicts; a record with `caption` is a grounding record, one with `task` a
            question or a caption of its own (see `GroundingDatasetMapper`).
        dataset_name: for the messages.
        source: the annotation file, for the messages.
        num_classes: how many classes a detection record may name; None: not checked.
        invalid: `"drop"`: leave invalid annotations and records out and log, in one line, their
            number per kind and the first of each (COCO train2017 has two boxes without area,
            Objects365 many); `"raise"`: stop at the first.
        check_files: also look whether each image file is there.
        drop_records: False: an invalid record raises in any case (evaluation over fewer images
            would be another number).
        report: of the data set, where its reader has told something already; it has a mode of its
            own instead of `invalid` and `drop_records`, and its owner logs it.

    Returns:
        The records that are left; those that had to be changed are copies.

    Raises:
        DataError: with file, record, annotation and field; also if most or nothing is left
            (`refuse_what_is_left`), or if the boxes are of another format (`refuse_patterns`).
    """
    where = f"{source} ({dataset_name})" if source else f"data set {dataset_name!r}"
    own = report is None
    report = report or Report(where, invalid, drop_records)
    records = records if isinstance(records, list) else list(records)
    refuse_patterns(records, where)
    result = []
    for record in records:
        try:
            result.append(
                check_record(
                    record, where, report, num_classes=num_classes, check_files=check_files
                )
            )
        except RecordError as error:
            report.unusable(error)
    if not result:
        reason = f" that can be used: {report.summary()}" if report.records else ""
        raise DataError(f"{where} has no images{reason}")
    refuse_what_is_left(result, report, where)
    if own:
        report.log()
    return result


def check_record(
    record: Record,
    where: str,
    report: Report,
    *,
    num_classes: int | None = None,
    check_files: bool = False,
) -> Record:
    """One record without its invalid annotations.

    Args:
        record: a Detectron2 dict.
        where: the file, for the messages.
        report: takes the annotations that are left out.
        num_classes, check_files: see `check_records`.

    Raises:
        RecordError: the record itself is invalid.
    """
    try:
        _check_image(record, check_files)
    except _Invalid as problem:
        raise RecordError(problem.args[0], _place(where, record), problem.args[1]) from None
    kept, changed = [], False
    for index, annotation in enumerate(record.get("annotations", ())):
        plain = plain_annotation(annotation) if isinstance(annotation, dict) else annotation
        try:
            checked = _check_annotation(plain, record, num_classes)
        except _Invalid as problem:
            report.annotation(problem.args[0], _place(where, record, index), problem.args[1])
            changed = True
            continue
        report.clipped += checked is not plain
        if segmentation := checked.get("segmentation"):
            sound, problems = _sound_mask(segmentation, record["height"], record["width"])
            for text in problems:
                report.mask("bad mask", _place(where, record, index), f"segmentation: {text}")
            if problems:
                checked = {key: checked[key] for key in checked if key != "segmentation"}
                checked |= {"segmentation": sound} if sound else {}
        changed |= checked is not annotation
        kept.append(checked)
    return {**record, "annotations": kept} if changed else record


def _place(where: str, record: Record, index: int | None = None) -> str:
    """Names a record, or one of its annotations, in a message."""
    place = f"{where}: image {record.get('image_id')!r} ({record.get('file_name')})"
    if index is None:
        return place
    annotation = record["annotations"][index]
    label = annotation.get("id") if isinstance(annotation, dict) else None
    return f"{place}, annotation {index}" + ("" if label is None else f" (id {label})")


def not_utf8(text: str) -> bool:
    """Whether a text holds what UTF-8 cannot: bytes kept by `surrogateescape`, or the half of a
    character that a json file wrote as `\\ud83d` alone."""
    return _SURROGATE.search(text) is not None


def _check_image(record: Record, check_files: bool) -> None:
    # Where no boxes are known, the size is read with the image (VQAv2's and Karpathy's files).
    needs_size = "annotations" in record or "task" not in record
    for field in ("file_name", "height", "width") if needs_size else ("file_name",):
        if not record.get(field):
            raise _Invalid("missing field", f"the field {field!r} is missing or empty")
    for field in ("height", "width"):
        value = record.get(field, 1)
        number = isinstance(value, NUMBERS) and not isinstance(value, bool)
        if not number or not 1 <= value <= MOST_PIXELS or value % 1:
            raise _Invalid("bad image size", f"the field {field!r} is {value!r}")
    if problem := file_name_problem(record["file_name"]):
        raise _Invalid("bad file name", f"the field 'file_name': {problem}")
    if "task" in record:
        _check_task(record)
    if "caption" in record:
        _check_caption(record)
    if check_files and not os.path.isfile(image_file(record)):
        raise _Invalid(
            "missing image file", f"the image file {image_file(record)!r} does not exist"
        )


def image_file(record: Record) -> str:
    """Where the image of a record is: its file, or the container (TSV, tar) that holds it."""
    source = record.get("image_source")
    return record["file_name"] if source is None else source.path


def _check_task(record: Record) -> None:
    task, answers = record["task"], record.get("answers", {})
    if task not in TASKS:
        raise _Invalid("unknown task", f"the field 'task' is {task!r}, which is none of {[*TASKS]}")
    if task == "question" and "caption" not in record:
        raise _Invalid("missing field", "the field 'caption', the question, is missing")
    scores: Iterable[Any] = answers.items() if isinstance(answers, dict) else [answers]
    for entry in scores:
        if not (isinstance(entry, tuple) and isinstance(entry[0], str) and _is_share(entry[1])):
            what = f"the field 'answers' gives each answer a score from 0 to 1, and has {entry!r}"
            raise _Invalid("bad answers", what)


def _is_share(value: Any) -> bool:
    return isinstance(value, NUMBERS) and bool(0 <= value <= 1)


def _check_caption(record: Record) -> None:
    caption = record["caption"]
    if not isinstance(caption, str) or caption.strip() in ("", MASK):
        raise _Invalid("empty caption", "the field 'caption' is empty")
    if not_utf8(caption):
        raise _Invalid("caption not UTF-8", f"the field 'caption' is not UTF-8: {caption[:60]!r}")
    phrases = record.get("phrases") or ()
    if not isinstance(phrases, (list, tuple)):
        raise _Invalid("bad span of a question", f"tokens_positive_eval is no list: {phrases!r}")
    for phrase in phrases:
        if not phrase:
            raise _Invalid("phrase without tokens", "tokens_positive_eval: a phrase has no span")
        if not isinstance(phrase, (list, tuple)):
            what = f"tokens_positive_eval: {phrase!r} is no list of spans"
            raise _Invalid("bad span of a question", what)
        for span in phrase:
            problem = span_problem(caption, span)
            if problem:
                raise _Invalid("bad span of a question", f"tokens_positive_eval: {problem}")


def _check_annotation(annotation: Record, record: Record, num_classes: int | None) -> Record:
    """The annotation itself, or a copy with a clipped box."""
    if not isinstance(annotation, dict):
        raise _Invalid("no json object", f"the annotation is {annotation!r:.60}")
    if problem := crowd_problem(annotation.get("iscrowd", 0)):
        raise _Invalid("bad field", problem)
    if "caption" in record:
        _check_spans(annotation, record["caption"])
    else:
        category = annotation.get("category_id")
        if not isinstance(category, NUMBERS) or isinstance(category, bool) or category % 1:
            raise _Invalid("bad class", f"category_id {category!r} is not an integer")
        if num_classes is not None and not 0 <= category < num_classes:
            raise _Invalid(
                "unknown class",
                f"category_id {category} is unknown: the data set has {num_classes} classes "
                "(contiguous ids from 0)",
            )
    return _check_box(annotation, record["height"], record["width"])


def _sound_mask(segmentation: Any, height: int, width: int) -> tuple[list, list[str]]:
    """The polygons that can be drawn, and what is wrong with the others or with an RLE.

    What is drawn unchecked takes all memory, or ends the process (pycocotools).
    """
    if not isinstance(segmentation, list):
        problem = _rle_problem(segmentation, height, width)
        return [], [problem] if problem else []
    sound = [polygon for polygon in segmentation if _can_be_drawn(polygon, height, width)]
    if len(sound) == len(segmentation):
        return sound, []
    what = "is no list of at least three corners x, y in or near the image"
    wrong = (polygon for polygon in segmentation if not _can_be_drawn(polygon, height, width))
    return sound, [f"{polygon!r:.60} {what}" for polygon in wrong]


def _can_be_drawn(polygon: Any, height: int, width: int) -> bool:
    farthest = 2 * max(height, width)
    try:
        near = -farthest <= min(polygon) and max(polygon) <= farthest
        finite = math.isfinite(sum(polygon))  # min and max overlook NaN
    except (TypeError, ValueError, OverflowError):
        return False
    return near and finite and len(polygon) % 2 == 0 and len(polygon) >= 6


def _rle_problem(rle: Any, height: int, width: int) -> str | None:
    if not isinstance(rle, dict):
        return "is neither polygons nor RLE"
    if rle.get("size") not in ([height, width], (height, width)):
        return f"the mask has the size {rle.get('size')!r:.40}, its image {[height, width]}"
    counts = rle.get("counts")
    if isinstance(counts, list):
        numbers = all(isinstance(n, int) and n >= 0 for n in counts)
        if not numbers or sum(counts) != height * width:
            return f"the counts do not add up to the {height * width} pixels of its image"
    elif not isinstance(counts, (str, bytes)) or not counts:
        return f"the counts are {counts!r:.40}"
    elif sum(run_lengths(counts)) != height * width:
        return f"the counts {counts!r:.40} are no code of the {height * width} pixels of its image"
    return None


def run_lengths(counts: str | bytes) -> list[int]:
    """The run lengths of COCO's compressed code; [] where it is none.

    pycocotools stops at a damaged code, draws it somehow, or writes beyond its memory.
    """
    lengths: list[int] = []
    value = shift = 0
    for code in counts if isinstance(counts, bytes) else map(ord, counts):
        bits = code - 48
        if not 0 <= bits < 64 or shift > 30:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return [] if shift or min(lengths, default=0) < 0 else lengths


def _check_spans(annotation: Record, caption: str) -> None:
    spans = annotation.get("spans")
    if not spans:
        raise _Invalid(
            "phrase without tokens",
            "tokens_positive is missing or empty: the box belongs to no phrase",
        )
    if not isinstance(spans, (list, tuple)):
        raise _Invalid("bad span", f"tokens_positive is no list of spans: {spans!r:.60}")
    for span in spans:
        problem = span_problem(caption, span)
        if problem:
            raise _Invalid("bad span", f"tokens_positive: {problem} (caption {caption[:80]!r})")


def _check_box(annotation: Record, height: int, width: int) -> Record:
    box: Any = annotation.get("bbox")
    mode = annotation.get("bbox_mode")
    if mode not in _MODES:
        raise _Invalid("bad box", f"bbox_mode {mode!r} is neither XYWH_ABS nor XYXY_ABS")
    try:
        x1, y1, c, d = map(float, box)
    except (TypeError, ValueError):
        raise _Invalid("bad box", f"bbox {box!r} is not four numbers") from None
    x2, y2 = (x1 + c, y1 + d) if mode == _XYWH else (c, d)
    if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height:
        return annotation
    if not all(map(math.isfinite, (x1, y1, c, d))):
        raise _Invalid("bad box", f"bbox {list(box)} holds NaN or infinity")
    if x2 < x1 or y2 < y1:
        raise _Invalid("reversed box", f"bbox {list(box)} is reversed (negative width or height)")
    if x2 == x1 or y2 == y1:
        raise _Invalid("box without area", f"bbox {list(box)} has no area")
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise _Invalid(
            "box outside its image",
            f"bbox {list(box)} lies wholly outside its {width}x{height} image",
        )
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    corner = [x2 - x1, y2 - y1] if mode == _XYWH else [x2, y2]
    return {**annotation, "bbox": [x1, y1, *corner]}
