#!/usr/bin/env python
"""Visual Genome's objects as COCO json over the most frequent names.

    python datasets/prepare_visual_genome.py --root datasets/visual_genome --without-coco

`--root` holds the release: `objects.json`, `image_data.json` and the images in `VG_100K/`
and `VG_100K_2/`. It writes `annotations/visual_genome_{train,val}.json`, and with
`--without-coco` `annotations/visual_genome_no_coco_{train,val}.json` of the images that COCO
does not have: about half of them.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glipv2_d2.data.datasets.coco_writer import CocoWriter, coco_writer
from glipv2_d2.errors import command, well_formed

Entry = dict[str, Any]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("datasets/visual_genome"))
    parser.add_argument(
        "--classes", type=int, default=1600, help="so many of the most frequent names"
    )
    parser.add_argument("--class-list", type=Path, help="a text file with the names instead")
    parser.add_argument("--val", type=int, default=5000, help="images that are kept for val")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of these")
    parser.add_argument(
        "--without-coco", action="store_true", help="leave out the images that COCO has too"
    )
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Convert; returns the exit status."""
    args = parse_args(argv)
    with well_formed("a file of the release"):
        objects = _read(args.root / "objects.json")
        images = {image["image_id"]: image for image in _read(args.root / "image_data.json")}
        kind = "_no_coco" if args.without_coco else ""
        if args.without_coco:
            images = {key: i for key, i in images.items() if i.get("coco_id") is None}
        entries = [entry for entry in objects if entry["image_id"] in images]
        names = _class_names(entries, args)
        held_out = set(random.Random(args.seed).sample(sorted(images), min(args.val, len(images))))
        for split in ("train", "val"):
            output = args.root / "annotations" / f"visual_genome{kind}_{split}.json"
            chosen = [e for e in entries if (e["image_id"] in held_out) == (split == "val")]
            with coco_writer(output, names) as writer:
                write(chosen, images, names, writer)
            print(f"{output}: {len(writer.images)} images, {writer.boxes} boxes")
    return 0


def _read(path: Path) -> list[Entry]:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def name_of(thing: Entry) -> str:
    """The name of an object in lower case, "" if it has none."""
    names = thing.get("names") or [thing.get("name", "")]
    return " ".join(str(names[0]).lower().split())


def _class_names(entries: Sequence[Entry], args: argparse.Namespace) -> list[str]:
    if args.class_list is not None:
        return args.class_list.read_text(encoding="utf-8").split("\n")[:-1]
    counts = Counter(name_of(thing) for entry in entries for thing in entry["objects"])
    counts.pop("", None)
    # Equally frequent names in alphabetical order, so that every run gives the same list.
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return sorted(ranked[: args.classes])


def write(
    entries: Sequence[Entry],
    images: dict[int, Entry],
    names: Sequence[str],
    writer: CocoWriter,
) -> None:
    """Write images and their boxes; objects of other names are left out."""
    index = {name: i for i, name in enumerate(names, 1)}
    for entry in entries:
        image = images[entry["image_id"]]
        boxes = [
            (index[name_of(thing)], [thing[key] for key in ("x", "y", "w", "h")])
            for thing in entry["objects"]
            if name_of(thing) in index
        ]
        # .../VG_100K/2.jpg
        file_name = "/".join(image["url"].split("/")[-2:])
        writer.add(file_name, image["height"], image["width"], boxes, image["image_id"])


if __name__ == "__main__":
    sys.exit(main())
