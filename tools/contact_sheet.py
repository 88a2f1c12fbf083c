#!/usr/bin/env python
"""Draw a detector's results beside the truth.

    python -m tools.contact_sheet --dataset scenes_novel \\
        --results output/inference/coco_instances_results.json --output sheet.png

The results are what Detectron2's COCOEvaluator leaves in its output folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from detectron2.data import DatasetCatalog

from glipv2_d2.errors import DataError, command, well_formed
from glipv2_d2.scenes.contact_sheet import draw_contact_sheet, sheet_items


@command
def main(argv: list[str] | None = None) -> int:
    """Draw; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="registered name, e.g. scenes_val")
    parser.add_argument("--results", required=True, type=Path, help="COCO results json")
    parser.add_argument("--output", required=True, type=Path, help="picture to write")
    parser.add_argument("--count", type=int, default=12, help="number of images")
    parser.add_argument("--columns", type=int, default=2, help="image pairs in a row")
    parser.add_argument("--cell", type=int, default=384, help="pixels of a picture's longer side")
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images")
    args = parser.parse_args(argv)
    if args.dataset not in DatasetCatalog.list():
        raise DataError(f"there is no registered data set {args.dataset!r}")
    with well_formed(f"'{args.results}'"):
        results = json.loads(args.results.read_text(encoding="utf-8"))
        items = sheet_items(args.dataset, results, args.count, args.score_threshold, args.seed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    draw_contact_sheet(items, args.columns, args.cell).save(args.output)
    print(f"{len(items)} images: {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
