"""What was found, cut out of its image: a folder of pictures a class, as classifiers read them."""

from __future__ import annotations

import csv
import logging
import math
import re
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UsageError, UserError, printable
from .labels import Labels, unique_names

_LONGEST = 80  # characters of a folder's name; file systems take 255 bytes


def write_crops(labels: Labels, folder: Path) -> None:
    """Write `<class>/<image>_<number>.jpg` and `crops.csv`, which says what each one is.

    Classes whose names are the same without the characters that no folder's name may have get a
    number behind it. Sides are rounded outward to whole pixels. The crops of an image that cannot
    be read have no file in `crops.csv`, and the log tells how many images that are.

    Raises:
        UsageError: labels without pixels.
    """
    if labels.read is None:
        raise UsageError("crops are cut out of the images, and there are only labels here")
    folders = dict(zip(labels.names, unique_names(map(_folder_name, labels.names))))
    unread = []
    with open(folder / "crops.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("crop", "file", "phrase", "score", "x0", "y0", "x1", "y1"))
        for image, stem in zip(labels.images, labels.stems):
            pixels = None
            try:
                pixels = labels.read(image.file) if image.detections else None
            except (UserError, OSError) as error:
                unread.append(str(error))
            for number, found in enumerate(image.detections, 1):
                name = f"{folders[found.phrase]}/{stem}_{number}.jpg"
                if pixels is not None:
                    _cut(pixels, found.box, folder / name)
                crop = "" if pixels is None else name
                table.writerow((crop, printable(image.file), found.phrase, found.score, *found.box))
    if unread:
        logging.getLogger(__name__).warning("%d images have no crops: %s", len(unread), unread[0])


def _cut(pixels: np.ndarray, box: list[float], path: Path) -> None:
    height, width = pixels.shape[:2]
    x0, y0 = min(math.floor(box[0]), width - 1), min(math.floor(box[1]), height - 1)
    x1, y1 = max(math.ceil(box[2]), x0 + 1), max(math.ceil(box[3]), y0 + 1)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels[y0:y1, x0:x1, ::-1]).save(path, "JPEG", quality=95)


def _folder_name(phrase: str) -> str:
    """The phrase as a folder can be called everywhere."""
    return re.sub(r'[\\/:*?"<>|\s]+', "_", phrase)[:_LONGEST].strip("._") or "class"
