"""Few-shot subsets of detection data sets, by GLIP's rule and in its files.

GLIP and ELEVATER release a subset as `fewshot_train_shot{K}_seed{S}.json` in COCO's format, and one
of the validation set, which chooses the model. The rule is that of GLIP's loader (few_shot and
shuffle_seed in maskrcnn_benchmark/data/datasets/coco.py): a shot is an image, not a box.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import DataError, UsageError
from ..files import whole_file
from ..language.class_names import detection_classes
from .datasets.coco_like import IMAGE_KEYS
from .images import image_file
from .report import Record

__all__ = ["few_shot_records", "few_shot_split", "write_detection_json"]


def few_shot_split(base: str, shots: int, seed: int) -> str:
    """The name of a subset, of its file and in the catalog: `"fewshot_train_shot3_seed30"`."""
    return f"fewshot_{base}_shot{shots}_seed{seed}"


def few_shot_records(records: Sequence[Record], shots: int, seed: int) -> list[Record]:
    """The images of a few-shot subset, with all of their boxes.

    The images that have boxes, in the order of their ids, are shuffled by the seed. Each is taken
    if a class in it has fewer than `shots` images so far. So every class has `shots` images, or all
    it has; a class that comes with others may have more.

    Args:
        records: of a detection data set, in any order; the subset depends on seed and ids alone.
        shots: images of each class. seed: of the shuffling; GLIP's are 3, 30 and 300.

    Raises:
        UsageError: fewer shots than one.
        DataError: no image has a box, or a record has no class ids.
    """
    if shots < 1:
        raise UsageError(f"a few-shot subset has at least 1 image of each class, not {shots}")
    shown = [(record, _classes(record)) for record in records if record.get("annotations")]
    if not shown:
        raise DataError("no image has a box: there is nothing to draw few-shot images from")
    # Numbers before texts, as readers sort.
    shown.sort(key=lambda pair: (isinstance(pair[0]["image_id"], str), pair[0]["image_id"]))
    random.Random(seed).shuffle(shown)
    images: Counter[int] = Counter()
    taken = []
    for record, classes in shown:
        if any(images[index] < shots for index in classes):
            taken.append(record)
            images.update(classes)
    return taken


def _classes(record: Record) -> set[int]:
    try:
        return {annotation["category_id"] for annotation in record["annotations"]}
    except KeyError as error:
        raise DataError(
            f"image {record.get('image_id')!r} has a box without {error}: few-shot subsets are "
            "drawn by class, from detection data sets"
        ) from None


def write_detection_json(path: str | Path, name: str, records: Sequence[Record]) -> None:
    """Write records of a registered detection data set in COCO's format.

    Classes keep the ids that they have in the data set's own file, and images their ids; boxes are
    numbered anew. The area of a box is that of the box, of its mask nothing is told. The paths of
    images are relative to the `image_root` of the metadata, where they lie below it; images that
    are no files become files beside the json.

    Args:
        path: the json; it appears whole or not at all.
        name: of the data set; its metadata has the classes.
        records: as its reader returns them, or some of them.

    Raises:
        DataError: the data set has no classes.
    """
    metadata = MetadataCatalog.get(name)
    names = detection_classes(name)
    if names is None:
        raise DataError(f"{name!r} has no thing_classes in its metadata: it is no detection data")
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id")
    ids = {i: key for key, i in contiguous.items()} if contiguous else range(1, len(names) + 1)
    root = metadata.get("image_root") or ""
    content: dict[str, list] = {"images": [], "annotations": []}
    folder = Path(path).resolve().with_suffix("")
    for record in records:
        content["images"].append(_image(record, root, folder))
        for annotation in record.get("annotations", ()):
            entry = _annotation(annotation, ids[annotation["category_id"]])
            entry.update(id=len(content["annotations"]) + 1, image_id=record["image_id"])
            content["annotations"].append(entry)
    content["categories"] = [{"id": ids[i], "name": text} for i, text in enumerate(names)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "w") as file:
        json.dump(content, file)


def _image(record: Record, root: str, folder: Path) -> Record:
    file_name = image_file(record, folder)
    if root and Path(file_name).is_relative_to(root):
        file_name = os.path.relpath(file_name, root)
    image = {"id": record["image_id"], "file_name": file_name}
    for key in ("height", "width", *IMAGE_KEYS):
        if key in record:
            image[key] = record[key]
    return image


def _annotation(annotation: Record, category_id: int) -> dict[str, Any]:
    box = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYWH_ABS)
    box = [float(value) for value in box]
    entry = {"category_id": category_id, "bbox": box, "area": box[2] * box[3]}
    entry["iscrowd"] = int(annotation.get("iscrowd", 0))
    if mask := annotation.get("segmentation"):
        if isinstance(mask, dict) and isinstance(mask["counts"], bytes):
            mask = {**mask, "counts": mask["counts"].decode("ascii")}
        entry["segmentation"] = mask
    return entry
