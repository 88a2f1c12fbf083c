"""`glip inspect`: check, count and show a data set before training on it."""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog
from detectron2.utils.logger import setup_logger
from PIL import Image

from ..config import named_setting
from ..data import (
    GROUNDING_FORMATS,
    detect_format,
    register_detection_dataset,
    register_grounding_dataset,
)
from ..data.caption_boxes import label_changes, label_lines
from ..data.same_images import same_images
from ..data.samplers import UNUSABLE
from ..data.survey import DataSurvey, survey
from ..errors import DataError, UsageError
from ..language.class_names import detection_classes
from ..language.tokenizer import PromptTokenizer
from .inspection import (
    contact_sheet,
    describe_prompt,
    draw_record,
    evaluation_prompts,
    training_prompt,
    write_changes,
    write_labels,
)

Record = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    """Inspect."""
    if (args.name is None) == (args.json is None):
        raise UsageError("give either the NAME of a registered data set or the PATH of one")
    setup_logger(name="glipv2_d2")
    if args.register is not None:
        runpy.run_path(args.register)
    reader_options = dict(_option(text) for text in args.options)
    given = args.json or args.name
    name = _registered(given, args.images, args.format, args.split, reader_options)
    with named_setting("--tokenizer, --max-tokens"):
        tokenizer = PromptTokenizer.from_pretrained(args.tokenizer, args.max_tokens)
    options = {"max_records": args.max_records, "check_images": args.check_images}
    found = survey(name, tokenizer=tokenizer, **options)
    if args.against is not None:
        _compare(found, survey(_registered(args.against)))
    lines = found.lines() + _labels(found, args, reader_options) + _show(found, tokenizer, args)
    print("\n".join(lines))
    if args.output is not None:
        text = "\n".join(lines) + "\n"
        (args.output / "report.txt").write_text(text, encoding="utf-8")
        print(f"pictures and this text: {args.output}")
    return 1 if found.problems.kinds or found.problems.warnings else 0


def _registered(
    given: str,
    images: str | None = None,
    format: str | None = None,
    split: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """The name of a data set: itself, or that under which the file or folder is registered now."""
    if given in DatasetCatalog.list():
        return given
    if format is None and not os.path.exists(given):
        raise DataError(
            f"there is no data set named {given!r}, nor a file or folder: register it in a file "
            "and give that with --register, or give the PATH of an export"
        )
    path = Path(given)
    name = path.stem if "*" not in path.stem else path.parent.name or "shards"
    name += "" if split is None else f"_{split}"
    while name in DatasetCatalog.list():
        name += "_inspected"
    format = format or detect_format(given)
    if format in GROUNDING_FORMATS:
        images = os.path.dirname(given) if images is None else images
        register_grounding_dataset(name, given, images, format, reader_options=options)
    else:
        register_detection_dataset(name, given, images, format, split=split, reader_options=options)
    return name


def _compare(found: DataSurvey, other: DataSurvey) -> None:
    """Warn of images that two data sets share."""
    if shared := same_images(found.usable, other.usable):
        first, second = shared[0]
        found.problems.warn(
            f"{len(shared)} of {len(found.images)} images are in {other.name!r} too, whatever "
            f"their names, the first: {first!r} is {second!r}. What is trained on must not be "
            "tested on: remove them from one of the two"
        )


def _labels(found: DataSurvey, args: argparse.Namespace, options: Mapping[str, Any]) -> list[str]:
    """The boxes of captions, and what changed from another set of labels."""
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    captions = [record for record in found.usable if "caption" in record]
    if captions and found.annotated:
        lines += label_lines(captions)
        lines += write_labels(captions, args.output) if args.output is not None else []
    if args.changes_from is not None:
        other = _registered(args.changes_from, args.images, args.format, args.split, options)
        before = survey(other, max_records=args.max_records)
        changes = label_changes(before.usable, found.usable)
        lines += changes.lines()
        if args.output is not None:
            lines += write_changes(changes, args.output, args.samples)
    return lines


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--option takes KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _show(found: DataSurvey, tokenizer: PromptTokenizer, args: argparse.Namespace) -> list[str]:
    """Pictures of some records, and their prompts in words."""
    names = detection_classes(found.name) or ()
    random.seed(args.seed)
    # Rather records with something to see.
    chosen = [r for r in found.usable if r.get("annotations")] or found.usable
    chosen = random.sample(chosen, min(args.samples, len(chosen)))
    lines: list[str] = []
    pictures: list[Image.Image] = []
    told: set[str] = set()
    for number, record in enumerate(chosen):
        lines.append("")
        lines.append(f"sample {number}: image {record.get('image_id')!r} ({record['file_name']})")
        try:
            if args.output is not None:
                pictures.append(draw_record(record, names))
                pictures[-1].save(args.output / f"{number:03d}.png")
                lines.append(f"picture: {number:03d}.png")
            if found.annotated:
                options = {"negative_captions": args.negative_captions}
                prompt, boxes = training_prompt(record, tokenizer, **options)
                lines.append("training, a " + describe_prompt(prompt, tokenizer, boxes)[0])
                lines += describe_prompt(prompt, tokenizer, boxes)[1:]
            lines += _test_lines(record, tokenizer, args.chunk_size, told)
        except UNUSABLE as error:
            lines.append(f"problem: {error}")
            found.problems.record("sample", record["file_name"], str(error))
    if len(pictures) > 1:
        contact_sheet(pictures).save(args.output / "samples.png")
        lines += ["", "all pictures: samples.png"]
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
