"""PhraseCut's own files, `refer_<split>.json`: the only ones with whole masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from ...errors import DataError
from ..report import Record
from .coco_like import load_json

# Both files have a box from the same number; what json writes of it may be rounded.
SAME_BOX = 0.51


class Instance(NamedTuple):
    """One thing that a phrase refers to.

    Attributes:
        box: x, y, width, height in pixels.
        polygons: all that it is cut into, each flat: x0, y0, x1, y1, ...
    """

    box: Sequence[float]
    polygons: list[list[float]]


def read_refer_json(path: str) -> dict[str, list[Instance]]:
    """The instances of each task (a phrase of an image), by its `task_id`.

    Args:
        path: `refer_<split>.json`: a list of tasks with `task_id`, `instance_boxes` and, for
            each of these, `Polygons`: a list of polygons, each a list of [x, y].

    Raises:
        DataError: the file is missing or no such file.
    """
    tasks = load_json(path, "file refer_json (PhraseCut's own)")
    try:
        return {task["task_id"]: _instances(task) for task in tasks}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not PhraseCut's refer_<split>.json: {error!r}") from error


def _instances(task: Record) -> list[Instance]:
    return [
        Instance(box, [[value for x, y in polygon for value in (x, y)] for polygon in polygons])
        for box, polygons in zip(task["instance_boxes"], task["Polygons"], strict=True)
    ]


def with_whole_masks(records: Sequence[Record], dataset_name: str, refer_json: str) -> list[Record]:
    """Records of MDETR's `finetune_phrasecut_<split>.json` with the masks of PhraseCut's file.

    MDETR's file keeps one polygon of each instance, so that the masks of instances that are cut in
    several (by what is in front of them) lack parts.

    Args:
        records: with `task_id` and boxes x, y, width, height.
        dataset_name: for the messages.
        refer_json: see `read_refer_json`.

    Returns:
        Copies with another `segmentation`.

    Raises:
        DataError: the file is missing, or it lacks a task or one of its boxes.
    """
    if not PathManager.exists(refer_json):
        raise DataError(
            f"data set {dataset_name!r}: masks are to be trained on (use_masks=True), but "
            f"PhraseCut's own {refer_json!r} is not there, and MDETR's json has only one polygon "
            "of each instance: put the file there, or take the data set out of "
            "dataloader.train.datasets"
        )
    tasks = read_refer_json(refer_json)
    return [_whole(record, tasks, f"{refer_json} ({dataset_name})") for record in records]


def _whole(record: Record, tasks: dict[str, list[Instance]], where: str) -> Record:
    task_id = record.get("task_id")
    if task_id not in tasks:
        raise DataError(f"{where}: there is no task {task_id!r} (image {record['image_id']!r})")
    left = list(tasks[task_id])
    annotations = []
    for annotation in record["annotations"]:
        box = annotation["bbox"]
        if not _is_box(box):  # it is left out and counted where all boxes are checked
            annotations.append(annotation)
            continue
        instance = min(left, key=lambda i: _distance(i.box, box), default=None)
        if instance is None or _distance(instance.box, box) > SAME_BOX:
            raise DataError(f"{where}: task {task_id!r} has no instance with the box {box!r:.80}")
        left.remove(instance)  # of two with one box each gets its own
        annotations.append({**annotation, "segmentation": instance.polygons})
    return {**record, "annotations": annotations}


def _is_box(box: Any) -> bool:
    try:
        return len(box) == 4 and all(map(math.isfinite, box))
    except TypeError:
        return False


def _distance(first: Sequence[float], second: Sequence[float]) -> float:
    """In pixels, of the number that differs most."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True))
