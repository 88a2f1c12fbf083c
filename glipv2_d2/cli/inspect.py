"""`glip inspect`: check, count and show a data set before training on it."""

from __future__ import annotations

import argparse
import json
import random
import runpy
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from detectron2.utils.logger import setup_logger

from ..config import named_setting
from ..data import register_coco_dataset, register_grounding_dataset
from ..data.samplers import UNUSABLE
from ..errors import DataError, UsageError
from ..language.class_names import detection_classes
from ..language.tokenizer import PromptTokenizer
from .inspection import (
    Scan,
    describe_prompt,
    draw_record,
    evaluation_prompts,
    scan_dataset,
    training_prompt,
)

Record = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Inspect."""
    if (args.name is None) == (args.json is None):
        raise UsageError("give either the NAME of a registered data set or --json")
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
    options = dict(_option(text) for text in args.options)
    path = Path(args.json)
    name = path.stem if "*" not in path.stem else path.parent.name or "shards"
    if name in DatasetCatalog.list():
        name += "_inspected"
    if args.format == "coco":
        register_coco_dataset(name, args.json, args.images, reader_options=options)
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
    lines: list[str] = []
    told: set[str] = set()
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
