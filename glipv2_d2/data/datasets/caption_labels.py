"""GLIP's pseudo labels of image-text pairs: boxes and scores for the phrases of a caption."""

from __future__ import annotations

import json
from typing import Any

from detectron2.structures import BoxMode

from ...language.spans import to_words
from ..entries import field_of
from ..report import Record, RecordError, Report


def parse_label(text: bytes, where: str) -> Any:
    """Labels from json bytes.

    Raises:
        RecordError: no UTF-8 or no json.
    """
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecordError("caption not UTF-8", where, f"the label is not UTF-8: {error}") from None
    except ValueError as error:
        raise RecordError("no valid json", where, f"the label is no valid json: {error}") from None


def label_size(label: Record, where: str) -> tuple[int, int] | None:
    """(height, width) that a label has as `img_h, img_w` or `height, width`; None: it has neither.

    Raises:
        RecordError: they are no numbers.
    """
    for names in (("img_h", "img_w"), ("height", "width")):
        size: list[Any] = [label.get(name) for name in names]
        if all(size):
            try:
                return int(size[0]), int(size[1])
            except (TypeError, ValueError, OverflowError):
                what = ", ".join(f"{k}={v!r:.40}" for k, v in zip(names, size))
                raise RecordError("bad image size", where, f"{what} are no numbers") from None
    return None


def caption_fields(
    label: Record, caption: Any, where: str, report: Report, min_score: float, min_boxes: int
) -> Record:
    """The fields `caption` and `annotations` (with `spans`, `score`) of a pseudo-labeled caption.

    Args:
        label: `bboxes` (xyxy), `scores` and `tokens_positive` (character spans), one entry
            per box, or one entry per phrase with a list of boxes and of scores (what GLIP's code
            calls format v2). Spans of word pieces are widened to whole words.
        caption: what the spans point into.
        where: file and row, for the messages.
        report: takes the boxes that cannot be used.
        min_score: boxes that are not above it are left out (GLIP: 0.5); that is a choice and no
            fault, so they are not in the report.
        min_boxes: captions with fewer say nothing about the image to train on (GLIP: 1).

    Raises:
        RecordError: the caption is empty, the three lists do not have one length, or too few boxes
            are left.
    """
    if not isinstance(caption, str) or not caption.strip():
        raise RecordError("empty caption", where, "the field 'caption' is empty")
    boxes, spans, scores = (
        field_of(label, field, list, where) for field in ("bboxes", "tokens_positive", "scores")
    )
    scores = scores or [1.0] * len(boxes)
    if not len(boxes) == len(spans) == len(scores):
        raise RecordError(
            "lists of different lengths",
            where,
            f"{len(boxes)} 'bboxes', {len(spans)} 'tokens_positive' and {len(scores)} 'scores'",
        )
    annotations = []
    for index, (of_phrase, phrase_spans, phrase_scores) in enumerate(zip(boxes, spans, scores)):
        place = f"{where}: bboxes[{index}]"
        try:
            kept = boxes_above(of_phrase, phrase_scores, min_score, place)
            words = to_words(caption, phrase_spans) if kept else None
        except RecordError as error:
            report.annotation(error.kind, error.where, error.what)
        except (TypeError, ValueError) as error:
            report.annotation("bad span", place, f"tokens_positive: {error}")
        else:
            annotations += [
                {
                    "bbox": box,
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "iscrowd": 0,
                    "spans": words,
                    "score": score,
                }
                for box, score in kept
            ]
    if len(annotations) < min_boxes:
        what = f"{len(annotations)} boxes are left, {min_boxes} are asked for (min_boxes)"
        raise RecordError("too few boxes", where, what, fault=False)
    return {"caption": caption, "annotations": annotations}


def boxes_above(boxes: Any, scores: Any, min_score: float, place: str) -> list[tuple[Any, float]]:
    """(box, score) of one phrase, or its only box, that score more."""
    if not isinstance(boxes, list):
        raise RecordError("bad box", place, f"{boxes!r:.60} is no list")
    values = [scores]
    if boxes and isinstance(boxes[0], list):
        values = scores if isinstance(scores, list) else values
        values = values * len(boxes) if len(values) == 1 else values
    else:
        boxes = [boxes]
    if len(values) != len(boxes):
        what = f"{len(boxes)} boxes but {len(values)} scores"
        raise RecordError("lists of different lengths", place, what)
    if not all(isinstance(score, (int, float)) for score in values):
        raise RecordError("bad score", place, f"the score {scores!r:.60} is no number")
    return [(box, score) for box, score in zip(boxes, values) if score > min_score]
