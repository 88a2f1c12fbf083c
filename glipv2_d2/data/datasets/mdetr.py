"""The json format of MDETR and GoldG: one "image" entry per caption."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from detectron2.structures import BoxMode

from glipv2_d2.data.datasets.coco_like import read_json
from glipv2_d2.data.datasets.spans import whole_caption as whole_caption_phrase
from glipv2_d2.data.problems import ProblemLog, problem_log

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
        json_file: ``images[]`` with ``id, file_name, height, width, caption`` and
            ``annotations[]`` with ``image_id, bbox`` (xywh), ``tokens_positive`` ([start, end)
            character spans of the caption) and optionally ``iscrowd, segmentation``.
        image_root: the folder of the images, or one per ``data_source`` ("coco", "vg").
        dataset_name: goes into the records.
        whole_caption: a caption is one question as a whole (RefCOCO, PhraseCut).

    Returns:
        One dict per caption in Detectron2's form, with ``caption``, annotations with ``spans``
        instead of ``category_id``, ``phrases`` (from ``tokens_positive_eval``, or the whole
        caption) and the keys of ``IMAGE_KEYS`` that are there. What is wrong with an entry is
        counted in the :func:`~glipv2_d2.data.problems.problem_log`; boxes and spans are not
        looked at here: see :func:`~glipv2_d2.data.checks.check_records`.

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
    counts = Counter(image.get("id") for image in entries)
    images = {}
    for index, image in enumerate(entries):
        key = image.get("id")
        place = f"{json_file}: images[{index}], image {key!r} ({image.get('file_name')})"
        missing = [field for field in _REQUIRED if image.get(field) is None]
        origin = image.get("data_source")
        if missing:
            log.record("missing field", place, f"the field {missing[0]!r} is missing")
        elif counts[key] > 1:
            # Whose the annotations are cannot be told.
            what = f"the field 'id' is that of {counts[key]} images"
            log.record("duplicate image id", place, what)
        elif not isinstance(image_root, str) and origin not in image_root:
            what = f"data_source is {origin!r}, but image folders are known for "
            log.record("unknown data_source", place, what + f"{sorted(image_root)} only")
        elif not isinstance(image["caption"], str):
            log.record("caption is no text", place, f"the field 'caption' is {image['caption']!r}")
        else:
            images[key] = image
    return images


def _collect(
    entries: list[Record], by_image: dict[Any, list[Record]], json_file: str, log: ProblemLog
) -> None:
    seen = set()
    for index, entry in enumerate(entries):
        key = entry.get("id")
        place = f"{json_file}: image {entry.get('image_id')!r}, annotation {index} (id {key})"
        owner = by_image.get(entry.get("image_id"))
        if owner is None:
            what = f"it belongs to image {entry.get('image_id')!r}, which is not in the file"
            log.annotation("unknown image", place, what)
        elif key is not None and key in seen:
            log.annotation("duplicate annotation id", place, "the field 'id' is not unique")
        elif "bbox" not in entry:
            log.annotation("missing field", place, "the field 'bbox' is missing")
        elif "tokens_positive" not in entry:
            log.annotation("missing field", place, "the field 'tokens_positive' is missing")
        else:
            owner.append(_annotation(entry))
        seen.add(key)


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
