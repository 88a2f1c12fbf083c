"""The json format of MDETR and GoldG: one "image" entry per caption."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from detectron2.structures import BoxMode

from ...language.spans import whole_caption as whole_caption_phrase
from ..checks import check_record
from ..entries import Problem, sound_entries
from ..report import Record, RecordError, Report, reported
from .coco_like import read_json

# What evaluators and samplers may want to know of an image, where the file has it.
IMAGE_KEYS = (
    *("original_img_id", "original_id", "sentence_id", "task_id", "data_source"),
    # Of questions and captions as tasks of their own (pseudo labels of VQA, grounded captioning).
    *("task", "question_id", "question_type", "answer_type", "answers", "human_answers"),
)

# What `load_mdetr_images` keeps of the captions of an image, and of their boxes.
_OF_IMAGE = ("file_name", "height", "width", "dataset_name")
_OF_BOX = ("bbox", "bbox_mode", "spans")


def load_mdetr_json(
    json_file: str,
    image_root: str | Mapping[str, str],
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    whole_caption: bool = False,
    task: str | None = None,
) -> list[Record]:
    """Grounding records of an MDETR json (GoldG mixed, Flickr30k, RefCOCO, PhraseCut, scenes).

    Args:
        json_file: `images[]` with `id, file_name, height, width, caption` and
            `annotations[]` with `image_id, bbox` (xywh), `tokens_positive` ([start, end)
            character spans of the caption) and optionally `iscrowd, segmentation`. With
            `pseudo_labels` in it (`glip label`) nothing is known about boxes where it has none.
        image_root: the folder of the images, or one per `data_source` ("coco", "vg").
        dataset_name: goes into the records.
        report: takes what is left out; one of its own by default, which is logged.
        whole_caption: a caption is one question as a whole (RefCOCO, PhraseCut).
        task: of every record, for instance "caption": a causal text that is grounded as it stands
            (GLIPv2's grounded captioning); by default that which the file says, if it does.

    Returns:
        One dict per caption in Detectron2's form, with `caption`, annotations with `spans`
        instead of `category_id`, `phrases` (from `tokens_positive_eval`, or the whole
        caption) and the keys of `IMAGE_KEYS` that are there. Boxes and spans are not looked at
        here: see `check_records`.

    Raises:
        DataError: the file is missing or is no such json.
    """
    content = read_json(json_file, {"images", "annotations"}, "MDETR's format")
    with reported(json_file, report) as report:
        images, by_image = sound_entries(
            content,
            json_file,
            report,
            required=("id", "file_name", "height", "width", "caption"),
            image_problem=partial(_image_problem, image_root),
            annotation_problem=_annotation_problem,
        )
    records = [
        _record(image, by_image[key], image_root, dataset_name, whole_caption)
        for key, image in images.items()
    ]
    if task is not None:
        for record in records:
            record["task"] = task
    boxes = sum(len(record["annotations"]) for record in records)
    for record in records if "pseudo_labels" in content else ():
        if not record["annotations"]:
            del record["annotations"]
    text = "loaded %d captions with %d boxes from %s"
    logging.getLogger(__name__).info(text, len(records), boxes, json_file)
    return records


def load_mdetr_images(
    json_file: str,
    image_root: str | Mapping[str, str],
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
) -> list[Record]:
    """Captions to be written, with boxes to compare theirs with: one record per image.

    Args: as `load_mdetr_json`.

    Returns:
        A dict per image, with `task="caption"`, `references` (its captions in the file) and
        `grounded_references` (for each its `caption` and checked `annotations`). `image_id` is the
        `original_img_id` of the file, or the file name.

    Raises:
        DataError: as `load_mdetr_json`.
    """
    images: dict[Any, Record] = {}
    with reported(json_file, report) as report:
        for entry in load_mdetr_json(json_file, image_root, dataset_name, report=report):
            try:
                entry = check_record(entry, json_file, report)
            except RecordError as error:
                report.unusable(error)
                continue
            key = entry.get("original_img_id", os.path.basename(entry["file_name"]))
            if key not in images:
                fields = {field: entry[field] for field in _OF_IMAGE if field in entry}
                fields |= {"image_id": key, "task": "caption"}
                images[key] = {**fields, "references": [], "grounded_references": []}
            boxes = [{field: a[field] for field in _OF_BOX} for a in entry["annotations"]]
            grounded = {"caption": entry["caption"], "annotations": boxes}
            images[key]["references"].append(entry["caption"])
            images[key]["grounded_references"].append(grounded)
    return list(images.values())


def _image_problem(image_root: str | Mapping[str, str], image: Record) -> Problem | None:
    origin = image.get("data_source")
    if not isinstance(image_root, str) and origin not in tuple(image_root):
        known = f"image folders are known for {sorted(image_root)} only"
        return "unknown data_source", f"data_source is {origin!r}, but {known}"
    if not isinstance(image["caption"], str):
        return "caption is no text", f"the field 'caption' is {image['caption']!r}"
    return None


def _annotation_problem(entry: Record) -> Problem | None:
    for field in ("bbox", "tokens_positive"):
        if field not in entry:
            return "missing field", f"the field {field!r} is missing"
    return None


def _annotation(entry: Record) -> Record:
    result = {
        "id": entry.get("id"),
        "bbox": entry["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": entry.get("iscrowd", 0),
        "spans": entry["tokens_positive"],
    }
    if entry.get("segmentation"):
        result["segmentation"] = entry["segmentation"]
    return result


def _record(
    image: Record,
    annotations: list[Record],
    image_root: str | Mapping[str, str],
    dataset_name: str | None,
    whole_caption: bool,
) -> Record:
    if not isinstance(image_root, str):
        image_root = image_root[image["data_source"]]
    record = {
        "file_name": os.path.join(image_root, image["file_name"]),
        "height": image["height"],
        "width": image["width"],
        "image_id": image["id"],
        "caption": image["caption"],
        "annotations": [_annotation(entry) for entry in annotations],
    }
    if dataset_name is not None:
        record["dataset_name"] = dataset_name
    if whole_caption:
        record["phrases"] = whole_caption_phrase(image["caption"])
    elif "tokens_positive_eval" in image:
        record["phrases"] = image["tokens_positive_eval"]
    record.update((key, image[key]) for key in IMAGE_KEYS if key in image)
    return record
