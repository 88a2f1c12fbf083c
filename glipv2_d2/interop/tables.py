"""Detections as tables: CSV for pandas and spreadsheets, and text for people."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from detectron2.structures import Instances
from tabulate import tabulate

from ..errors import printable
from .labels import Labels

_COLUMNS = ("file", "phrase", "class_id", "score", "x0", "y0", "x1", "y1")


def write_csv(labels: Labels, folder: Path) -> None:
    """Write `detections.csv` and, for images without detections too, `images.csv`.

    Corners are in pixels. There are no masks.
    """
    images = [
        (printable(image.file), image.height, image.width, len(image.detections))
        for image in labels.images
    ]
    _write(folder / "images.csv", ("file", "height", "width", "detections"), images)
    rows = [
        (printable(i.file), found.phrase, labels.numbers[found.phrase], found.score, *found.box)
        for i in labels.images
        for found in i.detections
    ]
    _write(folder / "detections.csv", _COLUMNS, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def instances_table(instances: Instances, most: int = 20) -> str:
    """What was found in an image, as a table to be printed.

        print(instances_table(predictor("photo.jpg", ["cat", "dog"])[0]))

    Args:
        instances: as the predictor gives them.
        most: rows; how many more there are stands below.

    Returns:
        A line for each box: phrase, score, corners in pixels, and of a mask its pixels.
    """
    columns: dict[str, list] = {
        "phrase": list(instances.pred_phrases[:most]),
        "score": [f"{score:.2f}" for score in instances.scores[:most].tolist()],
    }
    for name, values in zip(("x0", "y0", "x1", "y1"), instances.pred_boxes.tensor[:most].T):
        columns[name] = [f"{value:.1f}" for value in values.tolist()]
    if instances.has("pred_masks"):
        columns["mask"] = instances.pred_masks[:most].flatten(1).sum(1).tolist()
    aligned = ["left", *["right"] * (len(columns) - 1)]
    rows = list(zip(*columns.values()))
    table = tabulate(rows, list(columns), disable_numparse=True, colalign=aligned if rows else None)
    left = len(instances) - len(rows)
    return f"{table}\n... and {left} more" if left else table
