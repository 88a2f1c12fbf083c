"""Referring expressions: which training images they share with COCO.

RefCOCO, RefCOCO+ and RefCOCOg are expressions for images of COCO train2014, of which most are in
train2017. A model that trains on train2017 has seen their validation and test images.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set

from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

from ..reader import Reader
from ..report import Record, Report
from .coco_like import load_coco_style_json, read_json

_COCO_FILE = re.compile(r"^(?:COCO_\w+?_)?(\d{12})(?:\.\w+)?$")


def image_key(file_name: str) -> str:
    """What an image is called in whatever release of COCO, or else its file name.

    `COCO_train2014_000000000009.jpg` and `train2017/000000000009.jpg` are one image; a number
    that is not written with twelve digits (Visual Genome's) is another.
    """
    name = os.path.basename(file_name)
    match = _COCO_FILE.match(name)
    return f"coco:{int(match.group(1))}" if match else name


def record_image_key(record: Record) -> str:
    """The `image_key` of a record; one that lies in a container is called by its key there
    (TSV rows and tar samples have no extension).
    """
    source = record.get("image_source")
    if source is None:
        return image_key(record["file_name"])
    # Readers write "container:key".
    return image_key(record["file_name"].removeprefix(f"{source.path}:"))


def images_of(json_files: Iterable[str]) -> set[str]:
    """The `image_key` of every image in MDETR or COCO json files.

    Raises:
        DataError: a file is missing or no such json.
    """
    return {
        image_key(image["file_name"])
        for json_file in json_files
        for image in read_json(json_file, {"images"}, "COCO's or MDETR's format")["images"]
        if isinstance(image.get("file_name"), str)
    }


def without_images(records: Sequence[Record], keys: Set[str]) -> list[Record]:
    """The records whose image is not in `keys` (see `record_image_key`)."""
    return [record for record in records if record_image_key(record) not in keys]


def register_coco_without_refexp(root: str, splits: Mapping[str, Sequence[str]]) -> None:
    """Register `coco_2017_train_without_refexp`: train2017 without the validation and test
    images of the referring-expression data sets.

    Args:
        root: the folder of the data sets.
        splits: data set -> its splits.
    """
    name = "coco_2017_train_without_refexp"
    json_file = os.path.join(root, "coco/annotations/instances_train2017.json")
    image_root = os.path.join(root, "coco/train2017")
    held_out = [
        os.path.join(root, f"mdetr_annotations/finetune_{data}_{split}.json")
        for data, of in splits.items()
        for split in of
        if split != "train"
    ]
    reader = Reader(_load_without, json_file, image_root, name, held_out=held_out)
    reader.register(evaluator_type="coco", **_get_builtin_metadata("coco"))


def _load_without(
    json_file: str, image_root: str, name: str, *, report: Report, held_out: Sequence[str]
) -> list[Record]:
    records = load_coco_style_json(json_file, image_root, name, report=report)
    return without_images(records, images_of(held_out))
