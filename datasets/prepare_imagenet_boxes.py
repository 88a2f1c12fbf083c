#!/usr/bin/env python
"""ImageNet's (ILSVRC CLS-LOC) boxes as COCO json.

    python datasets/prepare_imagenet_boxes.py --root datasets/imagenet_boxes --split train

`--root` holds the release: `LOC_synset_mapping.txt` ("n01440764 tench, Tinca tinca"), the
boxes as xml in `Annotations/<split>/` (train: a folder for each synset) and the images in
`<split>/`. It writes `annotations/imagenet_boxes_<split>.json`. A class is called by the first
of its synset's words.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree

from glipv2_d2.data.datasets.coco_writer import CocoWriter, coco_writer
from glipv2_d2.errors import DataError, command, well_formed


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("datasets/imagenet_boxes"))
    parser.add_argument("--split", default="train", choices=["train", "val"])
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Convert; returns the exit status."""
    args = parse_args(argv)
    skipped = 0
    with well_formed("a file of the release"):
        names = read_classes(args.root / "LOC_synset_mapping.txt")
        index = {synset: i for i, synset in enumerate(names, 1)}
        folder = args.root / "Annotations" / args.split
        files = sorted(folder.rglob("*.xml"))
        if not files:
            raise FileNotFoundError(f"there are no xml files in {folder}")
        output = args.root / "annotations" / f"imagenet_boxes_{args.split}.json"
        with coco_writer(output, list(names.values())) as writer:
            for path in files:
                skipped += not add(path, folder, index, writer)
    print(f"{output}: {len(writer.images)} images, {writer.boxes} boxes, {skipped} files left out")
    return 0


def read_classes(path: Path) -> dict[str, str]:
    """synset -> its first word."""
    names = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        synset, _, words = line.partition(" ")
        if not words.strip():
            raise DataError(f"{path}: the line {line!r} is not 'synset words'")
        names[synset] = words.split(",")[0].strip()
    return names


def add(path: Path, folder: Path, index: dict[str, int], writer: CocoWriter) -> bool:
    """Write one image; False if its xml cannot be used."""
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (int(root.findtext(f"size/{key}", "0")) for key in ("width", "height"))
        boxes = []
        for thing in root.iter("object"):
            x0, y0, x1, y1 = (
                float(thing.findtext(f"bndbox/{key}", "nan"))
                for key in ("xmin", "ymin", "xmax", "ymax")
            )
            if thing.findtext("name") in index:
                boxes.append((index[thing.findtext("name")], [x0, y0, x1 - x0, y1 - y0]))
    except (ElementTree.ParseError, ValueError):
        print(f"{path}: cannot be read", file=sys.stderr)
        return False
    if not width or not height or not boxes:
        return False
    name = path.relative_to(folder).with_suffix(".JPEG").as_posix()
    writer.add(name, height, width, boxes)
    return True


if __name__ == "__main__":
    sys.exit(main())
