#!/usr/bin/env python
"""LVIS minival, the 4,809 images of LVIS v1 val that MDETR and GLIP report, out of the val file.

    python datasets/prepare_lvis_minival.py --ids lvis_v1_minival_inserted_image_name.json

`--ids` is any json with `images[].id` (GLIP's minival file), a json list of image ids, or a
text file with one id a line. It writes `lvis/lvis_v1_minival.json` below the data sets.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from glipv2_d2.errors import DataError, command, well_formed

MINIVAL = 4809


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--root", type=Path, default=Path(os.getenv("DETECTRON2_DATASETS", "datasets"))
    )
    parser.add_argument("--ids", type=Path, required=True)
    return parser.parse_args(argv)


@command
def main(argv: list[str] | None = None) -> int:
    """Write the file; returns the exit status."""
    args = parse_args(argv)
    with well_formed("a file of the release"):
        ids = read_ids(args.ids)
        val = json.loads((args.root / "lvis/lvis_v1_val.json").read_text(encoding="utf-8"))
        content = subset(val, ids)
    output = args.root / "lvis/lvis_v1_minival.json"
    output.write_text(json.dumps(content), encoding="utf-8")
    print(f"{output}: {len(content['images'])} images, {len(content['annotations'])} annotations")
    if len(content["images"]) != MINIVAL:
        print(f"warning: minival has {MINIVAL} images", file=sys.stderr)
    return 0


def read_ids(path: Path) -> list[int]:
    """Image ids of a json or a text file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return [int(word) for word in text.split()]
    content = json.loads(text)
    if isinstance(content, dict):
        content = [image["id"] for image in content["images"]]
    return [int(i) for i in content]


def subset(val: dict, ids: list[int]) -> dict:
    """LVIS json of some images; all categories stay."""
    wanted = set(ids)
    unknown = wanted - {image["id"] for image in val["images"]}
    if unknown:
        raise DataError(f"{len(unknown)} ids are not in LVIS v1 val, for instance {min(unknown)}")
    return {
        **val,
        "images": [image for image in val["images"] if image["id"] in wanted],
        "annotations": [a for a in val["annotations"] if a["image_id"] in wanted],
    }


if __name__ == "__main__":
    sys.exit(main())
