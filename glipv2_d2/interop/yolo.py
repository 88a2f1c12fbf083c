"""A YOLO data set, ready to train on: images, a text file of each, and `data.yaml`."""

from __future__ import annotations

from pathlib import Path

import yaml

from .image_files import place_images
from .labels import DetectedImage, Labels


def write_yolo(labels: Labels, folder: Path) -> None:
    """Write `data.yaml`, `images/` and `labels/`.

    The images are links to yours, see `place_images`. They are both "train" and "val": split them
    as you like. Lines have no scores, which trainers refuse, and no masks.
    """
    place_images(labels, folder / "images")
    (folder / "labels").mkdir()
    for image, stem in zip(labels.images, labels.stems):
        lines = "".join(_lines(labels, image))
        (folder / "labels" / f"{stem}.txt").write_text(lines, encoding="utf-8")
    names = dict(enumerate(labels.names))
    content = {"train": "images", "val": "images", "nc": len(names), "names": names}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _lines(labels: Labels, image: DetectedImage) -> list[str]:
    lines = []
    for found in image.detections:
        x0, y0, x1, y1 = found.box
        center = (x0 + x1) / 2 / image.width, (y0 + y1) / 2 / image.height
        size = (x1 - x0) / image.width, (y1 - y0) / image.height
        numbers = " ".join(f"{value:.6f}" for value in (*center, *size))
        lines.append(f"{labels.numbers[found.phrase]} {numbers}\n")
    return lines
