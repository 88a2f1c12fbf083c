"""Reads a COCO json as ground truth: what training reads of it, in the form of pycocotools."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from ..data.checks import check_record
from ..data.datasets.coco_like import (
    coco_entries,
    detectron2_annotation,
    read_categories,
    read_json,
)
from ..data.entries import plain_number
from ..data.loading import read_dataset
from ..data.reader import collector_paused
from ..data.report import RecordError, Report

Record = dict[str, Any]


@collector_paused()
def load_coco_truth(json_file: str) -> COCO:
    """Load the ground truth of a COCO json for `COCOeval`.

    It is what `load_coco_style_json` and `check_records` leave of the file, with one difference: a
    box that reaches beyond its image is not clipped, as nobody's COCO numbers clip it. A file
    without faults is taken as it is.

    pycocotools looks up fields that training does not need; where the file has none they are what
    COCO defines them to be: `iscrowd` is 0, `area` is that of the mask in pixels, or of the box
    where there is no mask, and `id` counts from 1 (also where ids occur twice, are no numbers, or
    are 0, which pycocotools takes for "no match"). Image ids become texts if one of them is a text.
    A file without `annotations` stays one, as Detectron2's evaluator expects of it.

    Raises:
        DataError: as the reader.
    """
    fields = {"images", "annotations", "categories"}
    content = read_json(json_file, fields, "COCO's format", optional={"annotations"})
    return _truth(content, json_file, Report(f"the ground truth in {json_file}"))


@collector_paused()
def truth_of_records(name: str) -> COCO:
    """Load the ground truth of a registered data set of any format, as `load_coco_truth`.

    Args:
        name: in Detectron2's catalogs, with classes; its records are read as for training.

    Raises:
        DataError: as the reader.
    """
    report = Report(f"the ground truth of data set {name!r}")
    records = read_dataset(name, report)
    metadata = MetadataCatalog.get(name)
    categories = {n: i for i, n in metadata.thing_dataset_id_to_contiguous_id.items()}
    content = {
        "images": [
            {"id": r["image_id"], **{key: r[key] for key in ("file_name", "height", "width")}}
            for r in records
        ],
        "annotations": [
            {**a, "image_id": r["image_id"], "category_id": categories[a["category_id"]],
             "bbox": _xywh(a["bbox"], a["bbox_mode"])}
            for r in records for a in r["annotations"]
        ],
        "categories": [
            {"id": categories[n], "name": name} for n, name in enumerate(metadata.thing_classes)
        ],
    }  # fmt: skip
    return _truth(content, metadata.json_file, report)


def _xywh(box: Any, mode: BoxMode) -> Any:
    """The box in COCO's form; one that is not four numbers as it is, for the checks."""
    if mode == BoxMode.XYXY_ABS:
        with contextlib.suppress(TypeError, ValueError):
            x0, y0, x1, y1 = box
            return [x0, y0, x1 - x0, y1 - y0]
    return box


def _truth(content: Record, source: str, report: Report) -> COCO:
    ids, _ = read_categories(content["categories"], source)
    contiguous = {category: index for index, category in enumerate(ids)}
    images, by_image = coco_entries(content, contiguous, source, report)
    annotations = [
        annotation
        for key, image in images.items()
        for annotation in _annotations(image, by_image[key], contiguous, source, report)
    ]
    report.clipped = 0  # they are kept as they are
    report.log()
    _number(annotations)
    if any(isinstance(key, str) for key in images):
        for entry in annotations:
            entry["image_id"] = str(entry["image_id"])
        images = {str(key): {**image, "id": str(key)} for key, image in images.items()}
    truth = COCO()
    truth.dataset = {"info": {}, **content, "images": list(images.values())}  # looked up: info
    if "annotations" in content:
        truth.dataset["annotations"] = annotations
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _annotations(
    image: Record, entries: list[Record], contiguous: dict, json_file: str, report: Report
) -> list[Record]:
    """Check the entries of an image and add the fields that pycocotools looks up."""
    record = {
        "file_name": image["file_name"],
        "height": image["height"],
        "width": image["width"],
        "image_id": image["id"],
        "annotations": [
            {**detectron2_annotation(entry, contiguous, json_file, report), "entry": entry}
            for entry in entries
        ],
    }
    try:
        checked = check_record(record, json_file, report, num_classes=len(contiguous))
    except RecordError as error:
        report.unusable(error)
        return []
    result = []
    for annotation in checked["annotations"]:
        entry = annotation["entry"]
        truth = {key: value for key, value in entry.items() if key != "segmentation"}
        if "segmentation" in annotation:
            truth["segmentation"] = annotation["segmentation"]
        truth["iscrowd"] = int(entry.get("iscrowd", 0))
        truth["area"] = annotation_area(truth, image["height"], image["width"])
        result.append(truth)
    return result


def annotation_area(entry: Record, height: int, width: int) -> float:
    """Return the field `area`, or compute it: pixels of the mask, or else of the box (xywh)."""
    area = plain_number(entry.get("area"))
    if isinstance(area, (int, float)) and math.isfinite(area) and area >= 0:
        return area
    if segmentation := entry.get("segmentation"):
        return float(mask_util.area(compressed_rle(segmentation, height, width)))
    return float(entry["bbox"][2] * entry["bbox"][3])


def compressed_rle(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Convert a mask that is given as polygons or RLE to one compressed RLE."""
    if isinstance(segmentation, list):
        return mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, height, width)
    return segmentation


def _number(annotations: list[Record]) -> None:
    """Number the annotations from 1, unless the file has such ids."""
    ids = [annotation.get("id") for annotation in annotations]
    sound = all(type(i) is int and i > 0 for i in ids) and len(set(ids)) == len(ids)
    if not sound:
        for number, annotation in enumerate(annotations, 1):
            annotation["id"] = number
