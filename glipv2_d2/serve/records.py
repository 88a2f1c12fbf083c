"""What the model gives, as the json that the interface answers."""

from __future__ import annotations

from typing import Any

from detectron2.structures import Instances

from ..engine import results
from ..interop.labels import detection_records
from ..modeling.mask_output import paste_masks, rescale

__all__ = ["answer", "caption", "detections"]

# Pasted at once, a byte each: all masks of a large photo would be gigabytes.
MASK_PIXELS = 100_000_000


def detections(output: dict[str, Any], batched_input: dict[str, Any]) -> dict[str, Any]:
    """Of `GLIP.outputs` for an input that is asked to detect."""
    found = rescale(output["instances"], batched_input).to("cpu")
    if batched_input["merge_iou"] is not None:
        found = results.keep_best_phrase(found, batched_input["merge_iou"])
    return {"detections": _records(found)}


def answer(output: dict[str, Any], batched_input: dict[str, Any]) -> dict[str, Any]:
    """Of an input with a question."""
    found = results.answer(output, batched_input)
    return {
        "answer": found.answer,
        "answers": [[text, round(probability, 4)] for text, probability in found.answers],
        "words": _words(found.words),
        "detections": _records(found.instances),
    }


def caption(output: dict[str, Any], batched_input: dict[str, Any]) -> dict[str, Any]:
    """Of an input with a caption to be written."""
    found = results.caption(output, batched_input)
    return {
        "caption": found.caption,
        "caption_score": round(found.score, 4),
        "words": _words(found.words),
        "detections": _records(found.instances),
    }


def _words(words: results.Line) -> list[dict[str, Any]]:
    return [{"text": text, "class_id": class_id} for text, class_id in words]


def _records(instances: Instances) -> list[dict[str, Any]]:
    height, width = instances.image_size
    step = max(1, MASK_PIXELS // (height * width))
    parts = [instances[start : start + step] for start in range(0, len(instances), step)]
    found = (record for part in parts for record in detection_records("", paste_masks(part)))
    return [{key: record[key] for key in record if key != "file"} for record in found]
