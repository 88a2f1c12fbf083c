#!/usr/bin/env python
"""Render the embedded "scenes" data set: colored shapes on real photographs, without network.

    python datasets/prepare_scenes.py [--output DIR] [--seed 0] [--size 192] [--workers 2]

writes below DIR (default: scenes in $DETECTRON2_DATASETS, that is datasets/scenes):

    train/ val/ novel/                   pictures
    annotations/{train,val,novel}.json   COCO detection with masks
    annotations/{train,val}_grounding.json   MDETR-GoldG captions with character spans
    annotations/SPLIT_{questions,vqa}.json   VQAv2 questions and answers of each split
    annotations/SPLIT_captions.json          COCO captions
    annotations/SPLIT_{vqa,caption}_grounding.json   both with the boxes of their words, as MDETR's
    annotations/{train,val}_{old,new}.json, train_old_grounding.json   the parts without and with
                                         anything pink and any moon (docs/transfer.md)
    manifest.json                        the arguments; a complete folder is not rendered again

A folder that an earlier version has rendered gets the files that it lacks.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from glipv2_d2.errors import command
from glipv2_d2.scenes.build import build_scenes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    default = Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser() / "scenes"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=default, help="folder (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=192, help="height and width in pixels")
    parser.add_argument("--train", type=int, default=8000, help="number of training images")
    parser.add_argument("--val", type=int, default=400, help="number of validation images")
    parser.add_argument("--novel", type=int, default=300, help="images with held-out pairs")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: all CPUs)")
    return parser.parse_args(argv)


def _print_progress(done: int, total: int) -> None:
    step = max(1, total // 10)
    if done % step == 0 or done == total:
        print(f"scenes: {done}/{total} images", flush=True)


@command
def main(argv: list[str] | None = None) -> int:
    """Render; returns the exit status."""
    args = parse_args(argv)
    start = time.perf_counter()
    rendered = build_scenes(
        args.output,
        seed=args.seed,
        size=args.size,
        train=args.train,
        val=args.val,
        novel=args.novel,
        workers=args.workers,
        progress=_print_progress,
    )
    if rendered:
        print(f"scenes: written to {args.output} in {time.perf_counter() - start:.0f} s")
    else:
        print(f"scenes: {args.output} is complete, nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main())
