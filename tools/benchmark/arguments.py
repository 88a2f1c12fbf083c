"""The arguments of the benchmark, and what they are where nothing is asked for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .machine import available_cores
from .sides import SIDES
from .workload import PROMPTS

PARTS = (
    "speed", "gdino", "stages", "lvis", "memory", "train", "losses", "compile", "agreement",
    "profile", "captions", "exported", "shortlist",
)  # fmt: skip
# Two take a GLIPv2, exports folders; captions without what is kept an hour at full size.
ONLY_ASKED = "losses", "captions", "exported", "shortlist"
FULL_PARTS = tuple(part for part in PARTS if part not in ONLY_ASKED)
QUICK_PARTS = tuple(p for p in FULL_PARTS if p != "compile")  # compiling alone takes minutes
PRECISIONS = ("float32", "bf16", "fp16")
# What --quick changes, where nothing else is asked for.
QUICK = {
    "config": "demo/scenes.py",
    "size": (128, 192),
    "prompts": ("coco",),
    "precision": ("float32",),
    "batch": (1,),
    "chunks": 2,
    "repeats": 1,
    "compile_sizes": ((128, 192), (160, 224)),
}
FULL = {
    "config": "pretrain/glip_t.py",
    "size": (800, 1216),
    "prompts": PROMPTS,
    "precision": ("float32", "bf16"),
    "batch": (1, 4),
    "chunks": 8,
    "repeats": 3,
    "compile_sizes": ((800, 1216), (800, 1088), (800, 1333), (640, 960), (736, 1024)),
}


def _choices(allowed):
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        unknown = [part for part in chosen if part not in allowed]
        if unknown or not chosen:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'} is not among {', '.join(allowed)}"
            )
        return chosen

    return parse


def positive(text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in text.split(","))


def image_size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(s.isdigit() and int(s) >= 32 for s in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no image size: give HEIGHTxWIDTH of 32 pixels or more, such as 800x1216"
        )
    return int(sides[0]), int(sides[1])


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(image_size(part) for part in text.split(","))


def parse(argv: list[str] | None, description: str | None) -> argparse.Namespace:
    """The arguments, with the defaults of --quick or of a full run filled in."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    listed = f"parts, of {','.join(PARTS)}; default: all but {', '.join(ONLY_ASKED)}"
    add("--only", type=_choices(PARTS), help=listed)
    add("--quick", action="store_true", help="a small model and image, under a minute")
    add("--output", type=Path, default=Path("output/benchmark"), help="folder of the report")
    add("--config-file", dest="config", help="LazyConfig of the model (default pretrain/glip_t.py)")
    add("--weights", help="a checkpoint; default: seeded random weights")
    add("--device", default="cpu", help="cpu (default), cuda or auto")
    add("--threads", type=positive, help="of PyTorch; default: one per core")
    add("--size", type=image_size, help="HxW of the images (default 800x1216)")
    add(
        "--image",
        dest="images",
        action="append",
        default=[],
        help="a file; several make up a batch",
    )
    add("--prompts", type=_choices(PROMPTS), help="one, twenty, coco (1, 20 and 80 classes)")
    add("--batch", type=_counts, help="batch sizes, such as 1,4; stages and lvis take the first")
    add("--sides", type=_choices(tuple(SIDES)), help="measure only these: " + ", ".join(SIDES))
    add("--precision", type=_choices(PRECISIONS), help="float32,bf16 (default both); fp16")
    add("--repeats", type=positive, help="timed calls of each side (default 3)")
    add("--chunks", type=positive, help="of LVIS's prompts of 40 names (default 8; all: 31)")
    add("--train-size", type=image_size, help="HxW in training (default: --size; 224x320 on CPU)")
    add("--train-batch", type=positive, help="images in a training step (default 2; 1 on CPU)")
    add("--memory-limit", type=float, metavar="GIB", help="per process; default 90 %% of free")
    add("--exported", type=Path, action="append", default=[], metavar="FOLDER",
        help="an export for the part exported; several may be given")  # fmt: skip
    add("--compile-sizes", type=_sizes, help="HxW,HxW,... for the part compile")
    add("--candidates", type=positive, default=1000, help="pairs above the score threshold, with "
        "random weights")  # fmt: skip
    add("--seed", type=int, default=0)
    add("overrides", nargs="*", default=[], metavar="path.key=value", help="for the config")
    args = parser.parse_args(argv)
    args.given = list(sys.argv[1:] if argv is None else argv)
    for key, value in (QUICK if args.quick else FULL).items():
        if getattr(args, key) is None:
            setattr(args, key, value)
    args.only = args.only or (QUICK_PARTS if args.quick else FULL_PARTS)
    args.threads = args.threads or available_cores()
    # On CPU a step of two whole images takes a minute, and there are forty of them.
    small = args.device == "cpu" and not args.quick
    args.train_size = args.train_size or ((224, 320) if small else args.size)
    args.train_batch = args.train_batch or (1 if small else 2)
    return args
