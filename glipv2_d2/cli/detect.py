"""`glip detect`: find what a prompt names in images, and write pictures and a json."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import resolve_config
from ..engine.predictor import GroundingPredictor
from ..errors import UsageError, printable
from ..files import whole_file
from ..language.prompt import Prompt
from ..language.prompt_text import read_prompt
from .detection.images import detect
from .detection.inputs import Inputs, find_images, is_address, picture_paths, stamp
from .detection.journal import Journal


def _inputs_and_overrides(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images apart from `key=value`; a file or an address may have "=" in its name."""
    overrides = [t for t in given if "=" in t and not is_address(t) and not Path(t).exists()]
    inputs = [text for text in given if text not in overrides]
    if not inputs:
        raise UsageError(f"no image is given, only values for the config: {' '.join(overrides)}")
    return inputs, overrides


def _typed(text: str) -> str:
    """An argument as it was typed, in UTF-8: where the locale says otherwise (LC_ALL=C), Python
    reads it as something else."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeDecodeError:
        if printable(text) != text:
            raise UsageError(f"the prompt is not text in UTF-8: {printable(text)}") from None
        return text


def _predictor(args: argparse.Namespace, overrides: list[str]) -> GroundingPredictor:
    # None would switch it off, and not leave it to the config.
    merging = {} if args.merge_iou is None else {"merge_iou": args.merge_iou}
    predictor = GroundingPredictor.from_config(
        args.config_file,
        args.weights,
        device=args.device,
        batch_size=args.batch_size,
        score_threshold=args.threshold,
        overrides=overrides,
        **merging,
    )
    if args.tta:
        predictor.use_test_time_augmentation()
    return predictor


def _settings(
    args: argparse.Namespace, overrides: list[str], predictor: GroundingPredictor
) -> dict[str, Any]:
    """What results depend on, besides the image."""
    return {
        "prompt": args.prompt,
        "kind": args.kind,
        "phrases": args.phrases,
        "threshold": predictor.score_threshold,
        "merge_iou": predictor.merge_iou,
        "tta": args.tta,
        "config": [args.config_file, stamp(resolve_config(args.config_file))],
        "overrides": overrides,
        "weights": [args.weights, stamp(args.weights)],
    }


def run(args: argparse.Namespace) -> int:
    """Detect and write."""
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("stopped: what is done is kept, the same command goes on from there", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    args.prompt = _typed(args.prompt)
    given, overrides = _inputs_and_overrides(args.given)
    inputs = find_images(given)
    prompt = read_prompt(args.prompt, args.kind, args.phrases)
    output = Path(args.output)
    picture_paths(inputs.files, output)  # refuses now, not once the model is there
    predictor = _predictor(args, overrides)
    output.mkdir(parents=True, exist_ok=True)
    settings = _settings(args, overrides, predictor)
    journal = Journal(output / "detections.jsonl", settings)
    if journal.other_settings:
        changed = ", ".join(journal.other_settings)
        print(f"{journal.path} is of a run with another {changed}: every image is done anew")
    with journal:
        report = detect(predictor, inputs.files, prompt, output, journal)
    head = {
        "prompt": args.prompt,
        "kind": prompt.kind if isinstance(prompt, Prompt) else "classes",
        "threshold": predictor.score_threshold,
        "config": args.config_file,
        "weights": args.weights,
    }
    path = output / "detections.json"
    with whole_file(path, "w") as file:
        json.dump({**head, **report, "skipped": inputs.skipped}, file, indent=1)
    pictures = sum(image["picture"] is not None for image in report["images"])
    print(f"wrote {pictures} pictures and {path}")
    _say_skipped(inputs)
    if report["failed"]:
        names = ", ".join(entry["file"] for entry in report["failed"])
        failed = f"{len(report['failed'])} of {len(inputs.files)} images failed"
        print(f"{failed} (the same command tries them again): {names}", file=sys.stderr)
        return 1
    if set(journal.entries) <= set(inputs.files):  # else another run of this folder is not done
        journal.path.unlink()
    return 0


def _say_skipped(inputs: Inputs, most: int = 10) -> None:
    if inputs.skipped:
        names = ", ".join(inputs.skipped[:most]) + ", ..." * (len(inputs.skipped) > most)
        count = f"{len(inputs.skipped)} skipped, no images by their names"
        print(f"{count} (all are in detections.json): {names}", file=sys.stderr)
