"""The json format of MDETR and GoldG: one "image" entry per caption."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from glipv2_d2.data.checks import DataError

# What evaluators and samplers may want to know of an image, where the file has it.
IMAGE_KEYS = ("original_img_id", "original_id", "sentence_id", "task_id", "data_source")


def load_mdetr_json(
    json_file: str,
    image_root: str | Mapping[str, str],
    dataset_name: str | None = None,
) -> list[dict[str, Any]]:
    """Grounding records of an MDETR json (GoldG mixed, Flickr30k, RefCOCO, PhraseCut, scenes).

    Args:
        json_file: ``images[]`` with ``id, file_name, height, width, caption`` and
            ``annotations[]`` with ``image_id, bbox`` (xywh), ``tokens_positive`` ([start, end)
            character spans of the caption) and optionally ``iscrowd, segmentation``.
        image_root: the folder of the images, or one per ``data_source`` ("coco", "vg").
        dataset_name: goes into the records.

    Returns:
        One dict per caption in Detectron2's form, with ``caption``, annotations with ``spans``
        instead of ``category_id``, ``phrases`` (from ``tokens_positive_eval``) where the file
        has them, and the keys of ``IMAGE_KEYS`` that are there. Not validated: see
        :func:`~glipv2_d2.data.checks.check_records`.

    Raises:
        DataError: the file is missing or is no such json.
    """
    content = _read(json_file)
    by_image: dict[Any, list[dict]] = {}
    for image in content["images"]:
        for field in ("id", "file_name", "height", "width", "caption"):
            if field not in image:
                raise DataError(f"{json_file}: image {image.get('id')!r} has no field {field!r}")
        if image["id"] in by_image:
            raise DataError(f"{json_file}: two images have the id {image['id']!r}")
        by_image[image["id"]] = []
    for annotation in content["annotations"]:
        owner = by_image.get(annotation.get("image_id"))
        if owner is None:
            raise DataError(
                f"{json_file}: annotation {annotation.get('id')!r} belongs to image "
                f"{annotation.get('image_id')!r}, which is not in the file"
            )
        owner.append(_annotation(annotation, json_file))
    records = [
        _record(image, by_image[image["id"]], image_root, json_file, dataset_name)
        for image in content["images"]
    ]
    logging.getLogger(__name__).info(
        "Loaded %d captions with %d boxes from %s",
        len(records),
        len(content["annotations"]),
        json_file,
    )
    return records


def _read(json_file: str) -> dict[str, Any]:
    try:
        with PathManager.open(json_file, "r", encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise DataError(f"there is no annotation file {json_file!r}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"the annotation file {json_file!r} is no valid json: {error}") from error
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DataError(
            f"{json_file}: not in MDETR's format, which has the lists 'images' and 'annotations'"
        )
    return content


def _annotation(annotation: dict[str, Any], json_file: str) -> dict[str, Any]:
    for field in ("bbox", "tokens_positive"):
        if field not in annotation:
            raise DataError(f"{json_file}: annotation {annotation.get('id')!r} has no {field!r}")
    result = {
        "id": annotation.get("id"),
        "bbox": annotation["bbox"],
        "bbox_mode": BoxMode.XYWH_ABS,
        "iscrowd": annotation.get("iscrowd", 0),
        "spans": annotation["tokens_positive"],
    }
    if annotation.get("segmentation"):
        result["segmentation"] = annotation["segmentation"]
    return result


def _record(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    image_root: str | Mapping[str, str],
    json_file: str,
    dataset_name: str | None,
) -> dict[str, Any]:
    if not isinstance(image_root, str):
        origin = image.get("data_source")
        if origin not in image_root:
            raise DataError(
                f"{json_file}: image {image['id']!r} has data_source {origin!r}, but image folders "
                f"are known for {sorted(image_root)} only"
            )
        image_root = image_root[origin]
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
    if "tokens_positive_eval" in image:
        record["phrases"] = image["tokens_positive_eval"]
    record.update((key, image[key]) for key in IMAGE_KEYS if key in image)
    return record
