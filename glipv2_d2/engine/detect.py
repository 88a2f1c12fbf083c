"""Detect what a prompt names in a photo or a folder of them, from the command line.

    python tools/detect.py photo.jpg --config-file demo/scenes.py \\
        --weights weights/glip_scenes.safetensors --prompt "red star, blue ring" --output out

Images are files, folders (every format that the reader of images reads; what else lies there is
listed), and addresses ("https://...", as Detectron2's PathManager opens them).

How `--prompt` is read (glipv2_d2/language/prompt_text.py; `--kind` overrides it):

* with [brackets] it is a caption and the brackets mark its phrases: "a [red kite] above a [dog]";
* names between commas, semicolons, stops or line ends, and a name alone, are classes as they are
  written: "trash can, dog", "trash can . dog .", "legging";
* a sentence is a caption whose noun phrases are found: "a man riding a horse".

Written are a picture with labeled boxes per image, and in the end `detections.json`::

    {"prompt": ..., "kind": ..., "threshold": ..., "config": ..., "weights": ...,
     "images": [{"file": ..., "height": ..., "width": ..., "picture": ..., "detections": 3}],
     "detections": [{"file": ..., "phrase": ..., "class_id": ..., "score": ...,
                     "box": [x1, y1, x2, y2], "mask": {"size": [h, w], "counts": ...}}],
     "failed": [{"file": ..., "error": ...}],
     "skipped": ["files of the folders that are no images", ...]}

`mask` (COCO's run-length code) is there for models with a mask head. An image whose picture alone
could not be written is in `images`, with `"picture": null`, and in `failed`.

Until then the results stand in `detections.jsonl`, a line per image, written as they come. The
same command goes on after a run that was killed, and tries the images that failed again; with
another prompt, threshold, model or the like, and for an image that has changed, it begins anew. The
file is removed in the end, unless an image failed or it has images that were not asked for now.

The exit status is 0 when every image was read, 1 when some were not, 2 when nothing could be done,
130 when somebody stopped it (Ctrl-C).
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import resolve_config
from ..errors import UsageError, command, printable
from ..files import whole_file
from ..language.prompt import Prompt
from ..language.prompt_text import PROMPT_KINDS, read_prompt
from .detect_images import detect
from .detect_inputs import Inputs, find_images, is_address, picture_paths, stamp
from .detect_journal import Journal
from .predictor import GroundingPredictor

__all__ = ["detect", "main"]


def _argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "input",
        nargs="+",
        metavar="IMAGE|FOLDER|URL|KEY=VALUE",
        help="images, folders of them, and values for the config (model.prompt_batch_size=4)",
    )
    parser.add_argument("--config-file", required=True, help="path, or name of a shipped config")
    parser.add_argument("--weights", required=True, help=".safetensors or .pth, official GLIP too")
    parser.add_argument("--prompt", required=True, help='"cat, dog" or "a [kite] above a [dog]"')
    parser.add_argument("--kind", choices=PROMPT_KINDS, default="auto")
    parser.add_argument("--phrases", default="rules", help='"rules", "nltk", "spacy", ...')
    parser.add_argument("--output", required=True, help="folder for pictures and detections.json")
    parser.add_argument("--threshold", type=float, help="least score (default: the config's)")
    parser.add_argument(
        "--merge-iou",
        type=float,
        help="of boxes that overlap by more keep only the best phrase (default: the config's)",
    )
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--device", default="auto", help='"auto", "cpu", "cuda", ...')
    parser.add_argument("--tta", action="store_true", help="several sizes and flips per image")
    return parser


def _inputs_and_overrides(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images apart from `key=value`; a file or an address may have "=" in its name."""
    overrides = [t for t in given if "=" in t and not is_address(t) and not Path(t).exists()]
    inputs = [text for text in given if text not in overrides]
    if not inputs:
        raise UsageError(f"No image is given, only values for the config: {' '.join(overrides)}.")
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


def _run(args: argparse.Namespace) -> int:
    """Detect and write; returns the exit status."""
    args.prompt = _typed(args.prompt)
    given, overrides = _inputs_and_overrides(args.input)
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


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # no name of a file may end the run (LC_ALL=C)
            stream.reconfigure(errors="backslashreplace")
    args = _argument_parser().parse_intermixed_args(argv)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("stopped: what is done is kept, the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
