"""COCO json: as labels, and as the list of results that pycocotools' `loadRes` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from ..data.datasets.coco_writer import coco_writer
from .labels import DetectedImage, Detection, Labels


def write_coco(labels: Labels, folder: Path) -> None:
    """Write `annotations.json`: boxes and masks as labels, each with its `score`.

    File names are paths below `labels.root`, which is the `image_root` of readers. Masks are
    compressed run-length codes.
    """
    with coco_writer(folder / "annotations.json", labels.names) as writer:
        for image, path in zip(labels.images, labels.paths):
            annotations = [_annotation(labels, found) for found in image.detections]
            size = {"height": image.height, "width": image.width}
            writer.add_record({"file_name": path, **size, "annotations": annotations})


def write_coco_results(labels: Labels, folder: Path) -> None:
    """Write `results.json`, a list of detections, and `images.json` with their images and classes.

    Images are numbered from 1 in the order of the report, classes from 1.
    """
    images = [
        {"id": number, "file_name": path, "height": image.height, "width": image.width}
        for number, (image, path) in enumerate(zip(labels.images, labels.paths), 1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(labels.names, 1)]
    results = [
        result
        for number, image in enumerate(labels.images, 1)
        for result in _results(labels, image, number)
    ]
    for name, content in (
        ("images.json", {"images": images, "categories": categories}),
        ("results.json", results),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _annotation(labels: Labels, found: Detection) -> dict[str, Any]:
    annotation = {
        "bbox": found.box,
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": labels.numbers[found.phrase],
        "score": found.score,
    }
    return annotation if found.mask is None else {**annotation, "segmentation": found.mask}


def _results(labels: Labels, image: DetectedImage, number: int) -> list[dict[str, Any]]:
    results = []
    for found in image.detections:
        x0, y0, x1, y1 = found.box
        result = {
            "image_id": number,
            "category_id": labels.numbers[found.phrase] + 1,
            "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
            "score": found.score,
        }
        if found.mask is not None:
            result["segmentation"] = found.mask
        results.append(result)
    return results
