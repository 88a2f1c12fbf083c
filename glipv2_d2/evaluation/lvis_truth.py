"""Reads the annotations of LVIS as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.datasets.coco_like import read_json
from ..data.entries import plain_annotation
from ..data.reader import collector_paused
from ..errors import DataError
from .coco_truth import annotation_area, compressed_rle

FREQUENCIES = ("r", "c", "f")  # rare: in fewer than 10 training images; common: < 100; frequent


@dataclass
class LVISTruth:
    """The content of an LVIS json, with images and classes as indices into the sorted ids.

    Attributes:
        image_ids: (I,) int64 ascending; `sizes`: (I, 2) height, width.
        category_ids: (K,) int64 ascending; `frequency`: (K,) of "r", "c", "f".
        image, category: (G,) the annotations; `boxes` (G, 4) x, y, w, h; `areas` (G,) of the
            masks; `ignore` (G,) bool.
        negatives, not_exhaustive: (P, 2) pairs of image and class.
        rles: (G,) masks, only after `load_masks`.
    """

    json_file: str
    image_ids: np.ndarray
    sizes: np.ndarray
    category_ids: np.ndarray
    frequency: np.ndarray
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    ignore: np.ndarray
    negatives: np.ndarray
    not_exhaustive: np.ndarray
    rles: list[dict[str, Any]] | None = None

    def load_masks(self) -> None:
        """Read the masks too. They are left out at first: the polygons of val take gigabytes."""
        if self.rles is not None:
            return
        annotations = _read(self.json_file)["annotations"]
        self.rles = [
            compressed_rle(annotation["segmentation"], *map(int, self.sizes[image]))
            for annotation, image in zip(annotations, self.image)
        ]


@collector_paused()
def load_lvis_truth(json_file: str) -> LVISTruth:
    """Read an LVIS json (v1; of v0.5 too); that of a test set has no annotations.

    Texts of numbers are numbers, and an `area` that is missing is that of the mask or of the
    box, as in `load_coco_truth`.

    Raises:
        DataError: the file is missing, is no json, or lacks a field of LVIS.
    """
    content = _read(json_file)
    try:
        return _truth(content, json_file)
    except KeyError as error:
        raise DataError(f"{json_file}: not in LVIS's format: {error} is missing") from error


def _truth(content: dict[str, Any], json_file: str) -> LVISTruth:
    images = sorted(content["images"], key=lambda image: image["id"])
    categories = sorted(content["categories"], key=lambda category: category["id"])
    image_index = {image["id"]: index for index, image in enumerate(images)}
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    category_index = {category["id"]: index for index, category in enumerate(categories)}
    annotations = [plain_annotation(entry) for entry in content.get("annotations", ())]
    if "annotations" not in content:  # nor anything else that tells about the truth
        told: dict[str, list] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        images = [{**told, **image} for image in images]
        categories = [{"frequency": "f", **category} for category in categories]
    for annotation in annotations:
        if annotation["image_id"] not in image_index:
            raise DataError(
                f"{json_file}: annotation {annotation.get('id')} belongs to image "
                f"{annotation['image_id']!r}, which is not in the file"
            )
        if annotation["category_id"] not in category_index:
            raise DataError(
                f"{json_file}: annotation {annotation.get('id')} has the unknown category "
                f"{annotation['category_id']!r}"
            )
    return LVISTruth(
        json_file=json_file,
        image_ids=np.array([image["id"] for image in images], dtype=np.int64),
        sizes=np.array([[i["height"], i["width"]] for i in images], dtype=np.int64),
        category_ids=np.array([category["id"] for category in categories], dtype=np.int64),
        frequency=np.array([category["frequency"] for category in categories]),
        image=np.array([image_index[a["image_id"]] for a in annotations], dtype=np.int64),
        category=np.array([category_index[a["category_id"]] for a in annotations], dtype=np.int64),
        boxes=np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4),
        areas=np.array([annotation_area(a, *sizes[a["image_id"]]) for a in annotations], float),
        ignore=np.array([bool(a.get("ignore", 0)) for a in annotations], dtype=bool),
        negatives=_pairs(images, "neg_category_ids", category_index),
        not_exhaustive=_pairs(images, "not_exhaustive_category_ids", category_index),
    )


def _pairs(images: list[dict], field: str, category_index: dict[int, int]) -> np.ndarray:
    pairs = [
        (index, category_index[category])
        for index, image in enumerate(images)
        for category in image[field]
        if category in category_index
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _read(json_file: str) -> dict[str, Any]:
    fields = {"images", "annotations", "categories"}
    return read_json(json_file, fields, "LVIS's format", optional={"annotations"})
