#!/usr/bin/env python
"""Look at a data set before training on it.

    python tools/inspect_dataset.py coco_2017_val --output output/inspect
    python tools/inspect_dataset.py my_train --register my_config.py --output output/inspect
    python tools/inspect_dataset.py --json captions.json --images images --format mdetr

It reads and checks every record (fields, boxes inside their image, spans inside their caption,
files that exist), counts, draws samples with the phrases in the colors of their boxes, and prints
the prompts with the tokens of each phrase as the model gets them in training and in tests.
The exit status is 0 if all is well, 1 if something had to be left out or is doubtful, 2 if nothing
can be read.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from detectron2.utils.logger import setup_logger

import glipv2_d2  # noqa: F401  (registration)
from glipv2_d2.cli.inspection import (
    Scan,
    describe_prompt,
    draw_record,
    evaluation_prompts,
    scan_dataset,
    training_prompt,
)
from glipv2_d2.config import named_setting
from glipv2_d2.data import register_grounding_dataset
from glipv2_d2.data.datasets.coco_like import register_coco_style
from glipv2_d2.data.datasets.register import GROUNDING_FORMATS
from glipv2_d2.data.samplers import UNUSABLE
from glipv2_d2.errors import DataError, UsageError, command
from glipv2_d2.language.class_names import detection_classes
from glipv2_d2.language.tokenizer import PromptTokenizer

Record = dict[str, Any]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="registered name, e.g. coco_2017_val")
    parser.add_argument("--register", metavar="FILE.py", help="run it first: it registers NAME")
    parser.add_argument("--json", help="annotations of a data set that is not registered")
    parser.add_argument("--images", default="", help="its image folder")
    parser.add_argument(
        "--format",
        default="coco",
        choices=["coco", *sorted(name for name, _ in GROUNDING_FORMATS)],
        help="its format",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the format's reader, e.g. label_map=label_map.json or min_score=0.6",
    )
    parser.add_argument("--output", type=Path, help="folder for pictures and the text")
    parser.add_argument("--samples", type=int, default=8, help="records that are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of samples")
    parser.add_argument("--tokenizer", default="minilm", help="'minilm', a folder or a hub name")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--chunk-size", type=int, help="class names in a test prompt, e.g. 40")
    parser.add_argument("--negative-captions", type=int, default=0, help="of a training prompt")
    parser.add_argument("--max-records", type=int, help="look at so many records, evenly spread")
    parser.add_argument(
        "--check-images", action="store_true", help="read the header of every image too"
    )
    args = parser.parse_args(argv)
    if args.max_records is not None and args.max_records < 1:
        parser.error("--max-records must be at least 1")
    if (args.name is None) == (args.json is None):
        parser.error("give either the NAME of a registered data set or --json")
    return args


@command
def main(argv: list[str] | None = None) -> int:
    """Inspect; returns the exit status."""
    args = parse_args(argv)
    setup_logger(name="glipv2_d2")
    name = _register(args)
    with named_setting("--tokenizer, --max-tokens"):
        tokenizer = PromptTokenizer.from_pretrained(args.tokenizer, args.max_tokens)
    scan, records = scan_dataset(
        name, max_records=args.max_records, check_images=args.check_images, tokenizer=tokenizer
    )
    lines = scan.lines() + _show(scan, records, tokenizer, args)
    print("\n".join(lines))
    if args.output is not None:
        text = "\n".join(lines) + "\n"
        (args.output / "report.txt").write_text(text, encoding="utf-8")
        print(f"pictures and this text: {args.output}")
    return 1 if scan.problems.kinds or scan.problems.warnings else 0


def _register(args: argparse.Namespace) -> str:
    if args.register is not None:
        runpy.run_path(args.register)
    if args.json is None:
        if args.name not in DatasetCatalog.list():
            raise DataError(
                f"there is no data set named {args.name!r}; register it in a file and give that "
                "with --register, or give --json, --images and --format"
            )
        return args.name
    options = dict(_option(text) for text in args.option)
    path = Path(args.json)
    name = path.stem if "*" not in path.stem else path.parent.name or "shards"
    if name in DatasetCatalog.list():
        name += "_inspected"
    if args.format == "coco":
        register_coco_style(name, args.json, args.images, **options)
    else:
        register_grounding_dataset(
            name, args.json, args.images, args.format, reader_options=options
        )
    return name


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--option takes KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _show(
    scan: Scan, records: list[Record], tokenizer: PromptTokenizer, args: argparse.Namespace
) -> list[str]:
    """Pictures of some records, and their prompts in words."""
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
    names = detection_classes(scan.name) or ()
    random.seed(args.seed)
    # Rather records with something to see.
    chosen = [r for r in records if r.get("annotations")] or records
    chosen = random.sample(chosen, min(args.samples, len(chosen)))
    lines, told = [], set()
    for number, record in enumerate(chosen):
        lines.append("")
        lines.append(f"sample {number}: image {record.get('image_id')!r} ({record['file_name']})")
        try:
            if args.output is not None:
                picture = args.output / f"{number:03d}.png"
                draw_record(record, names).save(picture)
                lines.append(f"picture: {picture.name}")
            if scan.annotated:
                options = {"negative_captions": args.negative_captions}
                prompt, boxes = training_prompt(record, tokenizer, **options)
                lines.append("training, a " + describe_prompt(prompt, tokenizer, boxes)[0])
                lines += describe_prompt(prompt, tokenizer, boxes)[1:]
            lines += _test_lines(record, tokenizer, args.chunk_size, told)
        except UNUSABLE as error:
            lines.append(f"problem: {error}")
            scan.problems.record("sample", record["file_name"], str(error))
    return lines


def _test_lines(
    record: Record, tokenizer: PromptTokenizer, chunk_size: int | None, told: set[str]
) -> list[str]:
    """The test prompts; a vocabulary is told once, not for every record."""
    prompts = evaluation_prompts(record, tokenizer, chunk_size)
    if prompts[0].caption in told:
        return [f"test: the same {len(prompts)} prompts as above"]
    told.add(prompts[0].caption)
    lines = [f"test: {len(prompts)} prompts" + (", the first:" if len(prompts) > 1 else "")]
    return lines + describe_prompt(prompts[0], tokenizer)


if __name__ == "__main__":
    sys.exit(main())
