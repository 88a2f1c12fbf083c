#!/usr/bin/env python
"""Open Images (V6/V7) boxes as COCO json with the verified-absent classes of each image.

    python datasets/prepare_openimages.py --root datasets/openimages --split train

`--root` holds the released files: `class-descriptions-boxable.csv`, the boxes
(`oidv6-train-annotations-bbox.csv` or `validation-annotations-bbox.csv`) and, for negatives,
the image labels (`train-annotations-human-imagelabels-boxable.csv`), and the images in
`train/` or `validation/`. It writes `annotations/openimages_<split>.json`.

Open Images is federated: a class that is not verified to be absent may be in the image without a
box. The labels with confidence 0 become `neg_category_ids` of the image, the only classes that
training prompts may use as negatives. Boxes of groups become crowd boxes.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

from PIL import Image

from glipv2_d2.data.datasets.coco_writer import CocoWriter, coco_writer
from glipv2_d2.errors import DataError, command, well_formed

_BLOCK = 4096


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("datasets/openimages"))
    parser.add_argument("--split", default="train", choices=["train", "validation", "test"])
    parser.add_argument("--threads", type=int, default=16, help="that read image sizes")
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Convert; returns the exit status."""
    args = parse_args(argv)
    with well_formed("a file of the release"):
        names, index = read_classes(find(args.root, "*class-descriptions-boxable.csv"))
        boxes = find(args.root, f"*{args.split}-annotations-bbox.csv")
        labels = find(args.root, f"*{args.split}-annotations-human-imagelabels-boxable.csv")
        absent = read_absent(labels, index)
        output = args.root / "annotations" / f"openimages_{args.split}.json"
        with coco_writer(output, names) as writer:
            images = args.root / args.split
            missing = convert(boxes, index, absent, images, writer, args.threads)
    print(
        f"{output}: {len(writer.images)} images, {writer.boxes} boxes; {missing} images left out "
        "that are not there or cannot be read"
    )
    return 0


def find(root: Path, pattern: str) -> Path:
    """The one file of a pattern, in the root or its annotations folder."""
    found = sorted([*root.glob(pattern), *(root / "annotations").glob(pattern)])
    if not found:
        raise FileNotFoundError(f"there is no {pattern} in {root} or {root / 'annotations'}")
    return found[0]


def read_classes(path: Path) -> tuple[list[str], dict[str, int]]:
    """(names, label -> category id from 1); V7's file has a header, older ones have none."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row and row[0] != "LabelName"]
    return [row[1] for row in rows], {row[0]: i for i, row in enumerate(rows, 1)}


def read_absent(path: Path, index: dict[str, int]) -> dict[str, list[int]]:
    """image -> category ids that people verified to be absent."""
    absent: dict[str, list[int]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if float(row["Confidence"]) == 0 and row["LabelName"] in index:
                absent.setdefault(row["ImageID"], []).append(index[row["LabelName"]])
    return absent


def convert(
    boxes: Path,
    index: dict[str, int],
    absent: dict[str, list[int]],
    images: Path,
    writer: CocoWriter,
    threads: int,
) -> int:
    """Write every image that has boxes or verified-absent classes; returns how many are missing."""
    missing = 0
    with open(boxes, encoding="utf-8", newline="") as file, ThreadPoolExecutor(threads) as pool:
        entries = with_absent(csv.DictReader(file), absent)
        while block := list(islice(entries, _BLOCK)):
            sizes = pool.map(lambda entry: image_size(images / f"{entry[0]}.jpg"), block)
            for (image, rows), size in zip(block, sizes):
                if size is None:
                    missing += 1
                    continue
                known = [row for row in rows if row["LabelName"] in index]
                writer.add(
                    f"{image}.jpg",
                    size[1],
                    size[0],
                    [to_box(row, index, *size) for row in known],
                    neg_category_ids=sorted(set(absent.get(image, ()))),
                )
    return missing


def with_absent(
    rows: Iterable[dict[str, str]], absent: dict[str, list[int]]
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """(image, its boxes), then the images without boxes of which something is verified."""
    seen = set()
    # The released files are sorted by image.
    for image, group in groupby(rows, key=lambda row: row["ImageID"]):
        if image in seen:
            raise DataError(f"the boxes of image {image} are in two places: sort the file")
        seen.add(image)
        yield image, list(group)
    for image in absent:
        if image not in seen:
            yield image, []


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height), None if the image is not there or no image."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def to_box(
    row: dict[str, str], index: dict[str, int], width: int, height: int
) -> tuple[int, list[float], bool]:
    """(category, xywh in pixels, whether it is a group); the file has fractions of the image."""
    x0, x1 = (float(row[key]) * width for key in ("XMin", "XMax"))
    y0, y1 = (float(row[key]) * height for key in ("YMin", "YMax"))
    return index[row["LabelName"]], [x0, y0, x1 - x0, y1 - y0], row.get("IsGroupOf") == "1"


if __name__ == "__main__":
    sys.exit(main())
