"""Registration of the embedded "scenes" data set, which `datasets/prepare_scenes.py` renders.

`scenes_train` (COCO detection, 52 classes), `scenes_train_grounding` (captions), `scenes_val`
(64 names asked, the 52 base classes occur), `scenes_val_grounding` and `scenes_novel` (64 names
asked; evaluated on the 12 color-shape pairs that training never shows).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..data.datasets.mdetr import load_mdetr_json
from ..data.datasets.register import GROUNDING_FORMATS, register_grounding_dataset
from ..data.report import Report
from ..errors import DataError
from .vocabulary import ALL_CLASSES, BASE_CLASSES, NOVEL_CLASSES

# name: (classes, the classes that the evaluation averages over or None for all)
_DETECTION = {
    "train": (BASE_CLASSES, None),
    "val": (ALL_CLASSES, BASE_CLASSES),
    "novel": (ALL_CLASSES, NOVEL_CLASSES),
}
_GROUNDING = ("train", "val")


def register_all_scenes(root: str | None = None) -> None:
    """Register every scenes split that is not registered yet; nothing is read before it is used.

    Args:
        root: the folder of the data sets; `DETECTRON2_DATASETS` or `datasets` by default.
    """
    root = os.path.expanduser(root or os.getenv("DETECTRON2_DATASETS", "datasets"))
    folder = os.path.join(root, "scenes")
    known = set(DatasetCatalog.list())
    for split, (classes, evaluated) in _DETECTION.items():
        if f"scenes_{split}" not in known:
            _register_detection(f"scenes_{split}", folder, split, classes, evaluated)
    for split in _GROUNDING:
        name = f"scenes_{split}_grounding"
        if name not in known:
            json_file = os.path.join(folder, "annotations", f"{split}_grounding.json")
            register_grounding_dataset(name, json_file, folder, format="scenes")


def _register_detection(name, folder, split, classes, evaluated) -> None:
    json_file = os.path.join(folder, "annotations", f"{split}.json")
    DatasetCatalog.register(name, partial(_load_detection, json_file, folder, name))
    metadata = MetadataCatalog.get(name)
    metadata.set(
        json_file=json_file,
        image_root=folder,
        evaluator_type="coco",
        thing_classes=list(classes),
        thing_dataset_id_to_contiguous_id={
            ALL_CLASSES.index(name) + 1: index for index, name in enumerate(classes)
        },
    )
    if evaluated is not None:
        metadata.set(evaluated_classes=list(evaluated))


def _load_detection(json_file: str, folder: str, name: str) -> list[dict[str, Any]]:
    _require(json_file, folder)
    records = load_coco_json(json_file, folder, name)
    for record in records:
        record["dataset_name"] = name
    return records


@GROUNDING_FORMATS.register("scenes")
def _load_grounding(json_file: str, folder: str, name: str, *, report: Report) -> list[dict]:
    _require(json_file, folder)
    return load_mdetr_json(json_file, folder, name, report=report)


def _require(json_file: str, folder: str) -> None:
    # prepare_scenes.py writes an annotation file after all the pictures that it names.
    if not os.path.isfile(json_file):
        raise DataError(
            f"the scenes data set is not in {folder!r} (no {os.path.basename(json_file)}): render "
            f"it with `python datasets/prepare_scenes.py --output {folder}`, or set "
            "DETECTRON2_DATASETS to the folder that holds it"
        )
