"""The json format of MDETR and GoldG: one "image" entry per caption."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from detectron2.structures import BoxMode

from ...language.spans import whole_caption as whole_caption_phrase
from ..entries import (
    annotation_problem,
    count_ids,
    image_problem,
    json_objects,
    plain_annotation,
)
from ..problems import ProblemLog, problem_log
from .coco_like import read_json

Record = dict[str, Any]

# What evaluators and samplers may want to know of an image, where the file has it.
IMAGE_KEYS = (
    "original_img_id",
    "original_id",
    "sentence_id",
    "task_id",
    "data_source",
)
_REQUIRED = ("id", "file_name", "height", "width", "caption")


def load_mdetr_json(
    json_file: str,
    image_root: str | Mapping[str, str],
    dataset_name: str | None = None,
    *,
    whole_caption: bool = False,
) -> list[Record]:
    """Grounding records of an MDETR json (GoldG mixed, Flickr30k, RefCOCO, PhraseCut, scenes).

    Args:
        json_file: `images[]` with `id, file_name, height, width, caption` and
            `annotations[]` with `image_id, bbox` (xywh), `tokens_positive` ([start, end)
            character spans of the caption) and optionally `iscrowd, segmentation`.
        image_root: the folder of the images, or one per `data_source` ("coco", "vg").
        dataset_name: goes into the records.
        whole_caption: a caption is one question as a whole (RefCOCO, PhraseCut).

    Returns:
        One dict per caption in Detectron2's form, with `caption`, annotations with `spans`
        instead of `category_id`, `phrases` (from `tokens_positive_eval`, or the whole
        caption) and the keys of `IMAGE_KEYS` that are there. What is wrong with an entry is
        counted in the `problem_log`; boxes and spans are not
        looked at here: see `check_records`.

    Raises:
        DataError: the file is missing or is no such json.
    """
    content = read_json(json_file, {"images", "annotations"}, "MDETR's format")
    with problem_log(json_file) as log:
        images = _images(content["images"], image_root, json_file, log)
        by_image: dict[Any, list[Record]] = {key: [] for key in images}
        _collect(content["annotations"], by_image, json_file, log)
    records = [
        _record(image, by_image[key], image_root, dataset_name, whole_caption)
        for key, image in images.items()
    ]
    logging.getLogger(__name__).info(
        "Loaded %d captions with %d boxes from %s",
        len(records),
        sum(len(record["annotations"]) for record in records),
        json_file,
    )
    return records


def _images(
    entries: list[Record], image_root: str | Mapping[str, str], json_file: str, log: ProblemLog
) -> dict[Any, Record]:
    counts = count_ids(entries)
    images = {}
    for index, image in json_objects(entries, f"{json_file}: images", log.record):
        problem = image_problem(image, _REQUIRED, counts)
        origin = image.get("data_source")
        if problem is None and not isinstance(image_root, str) and origin not in tuple(image_root):
            known = f"image folders are known for {sorted(image_root)} only"
            problem = "unknown data_source", f"data_source is {origin!r}, but {known}"
        elif problem is None and not isinstance(image["caption"], str):
            problem = "caption is no text", f"the field 'caption' is {image['caption']!r}"
        if problem is None:
            images[image["id"]] = image
            continue
        name = f"image {image.get('id')!r} ({image.get('file_name')})"
        log.record(problem[0], f"{json_file}: images[{index}], {name}", problem[1])
    return images


def _collect(
    entries: list[Record], by_image: dict[Any, list[Record]], json_file: str, log: ProblemLog
) -> None:
    seen: dict[Any, Record] = {}
    for index, entry in json_objects(entries, f"{json_file}: annotations", log.annotation):
        problem = annotation_problem(entry, by_image, seen)
        missing = [field for field in ("bbox", "tokens_positive") if field not in entry]
        if problem is None and missing:
            problem = "missing field", f"the field {missing[0]!r} is missing"
        if problem is None:
            by_image[entry["image_id"]].append(_annotation(plain_annotation(entry)))
            continue
        name = f"image {entry.get('image_id')!r}, annotation {index} (id {entry.get('id')})"
        log.annotation(problem[0], f"{json_file}: {name}", problem[1])


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
        "annotations": annotations,
    }
    if dataset_name is not None:
        record["dataset_name"] = dataset_name
    if whole_caption:
        record["phrases"] = whole_caption_phrase(image["caption"])
    elif "tokens_positive_eval" in image:
        record["phrases"] = image["tokens_positive_eval"]
    record.update((key, image[key]) for key in IMAGE_KEYS if key in image)
    return record
