"""CSV: a detection a row, for pandas and spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

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
