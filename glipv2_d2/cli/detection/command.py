"""What `glip detect`, `ask` and `caption` share: from a command line to pictures and a report."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ...checkpoint.file_kinds import telling_file
from ...config import resolve_config
from ...engine.predictor import GroundingPredictor
from ...errors import UsageError, printable
from ...files import whole_file
from ...images import PIXELS_VARIABLE
from ...interop import Labels, exports
from ...sources import stamp
from .images import Ask, Batch, process
from .inputs import Inputs, find_images, is_input, picture_paths
from .journal import Journal
from .video import VideoTask, process_videos


class Given(NamedTuple):
    """The images of a command line, and the values for the config beside them."""

    inputs: Inputs
    overrides: list[str]


class Task(NamedTuple):
    """What is asked of images.

    Attributes:
        name: of the report, `<name>.json`.
        ask: what is found in some images.
        settings: what the results depend on, besides image, config and weights.
        head: the beginning of the report.
        batch_size: images that are asked about together.
        tell: called after each batch.
        formats: of `glipv2_d2.interop.FORMATS`, in which the detections are written too.
    """

    name: str
    ask: Ask
    settings: Mapping[str, Any]
    head: Mapping[str, Any]
    batch_size: int
    tell: Callable[[Batch], None]
    formats: Sequence[str] = ()


def read_given(args: argparse.Namespace, report: str) -> Given:
    """`find_given`, checked against the other options.

    Args:
        report: its name in the output folder, without suffix.

    Raises:
        UsageError: see there; a picture would go where its image is, or the report where another
            program's file is; or an option for videos is given without one.
        ModuleNotFoundError: a package for videos is not installed.
    """
    given = find_given(args)
    inputs = given.inputs
    if args.output is not None:
        if os.path.isfile(args.output):
            raise UsageError(f"--output is a folder, and '{args.output}' is a file: name another")
        everything = [*inputs.files, *inputs.videos]
        # These refuse now, not once the model is there.
        picture_paths(everything, Path(args.output))
        _refuse_foreign(Path(args.output) / f"{report}.json")
    if inputs.videos:
        if args.output is None:
            raise UsageError(f"--output is needed: a line per frame of '{inputs.videos[0]}'")
        for package in ("av", "trackers") if args.track else ("av",):
            import_module(package)
    elif args.track or args.every != 1:
        raise UsageError(f"{'--track' if args.track else '--every'} is for videos, none is given")
    return given


def _refuse_foreign(path: Path) -> None:
    """A report is replaced, and nothing else that has its name."""
    if not path.exists():
        return
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # a folder, another format
        found = None
    if not (isinstance(found, dict) and {"config", "weights", "images", "failed"} <= found.keys()):
        raise UsageError(
            f"'{path}' is in the place of the report, and of another program: give another "
            "--output, or move it away"
        )


def find_given(args: argparse.Namespace) -> Given:
    """`args.given` as images and videos apart from `key=value`, which a file or an address may have
    in its name.

    Raises:
        UsageError: nothing is given, or something that is not there.
    """
    words: Sequence[str] = args.given
    overrides = [text for text in words if "=" in text and not is_input(text)]
    files = [text for text in words if text not in overrides]
    if not files:
        raise UsageError(f"no image is given, only values for the config: {' '.join(overrides)}")
    if args.max_pixels is not None:
        os.environ[PIXELS_VARIABLE] = str(args.max_pixels)
    return Given(find_images(files, args.output), overrides)


def typed(text: str) -> str:
    """An argument as it was typed, in UTF-8: where the locale says otherwise (LC_ALL=C), Python
    reads it as something else."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeDecodeError:
        if printable(text) != text:
            raise UsageError(f"this is no text in UTF-8: {printable(text)}") from None
        return text


def refuse_file_of_names(option: str, text: str) -> None:
    """A prompt is the text itself; of a file its name would be looked for."""
    if Path(text).suffix and os.path.isfile(text):
        raise UsageError(f'{option} is a text, and {text!r} is a file: {option} "$(cat {text})"')


def text_predictor(args: argparse.Namespace, overrides: list[str]) -> GroundingPredictor:
    """The model that answers or writes."""
    return GroundingPredictor.from_config(
        args.config_file,
        args.weights,
        device=args.device,
        batch_size=args.batch_size,
        phrase_threshold=args.threshold,
        phrases=args.phrases,
        overrides=overrides,
    )


def stoppable(
    run: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """The command with the exit status 130 where somebody stops it (Ctrl-C)."""

    @wraps(run)
    def stopped(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except KeyboardInterrupt:
            kept = ": what is done is kept, the same command goes on from there"
            print(f"stopped{kept if args.output is not None else ''}", file=sys.stderr)
            return 130

    return stopped


def run_task(task: Task, given: Given, args: argparse.Namespace, print_report: bool = False) -> int:
    """Ask about all images; write pictures and report where there is an `args.output`.

    Args:
        print_report: print it, and nothing else, to standard output.

    Returns:
        The exit status, 1 where some images failed.
    """
    with redirect_stdout(sys.stderr) if print_report else nullcontext():
        report = _asked(task, given, args)
    if print_report:
        print(json.dumps(report, indent=1))
    _say_skipped(given.inputs)
    if report["failed"]:
        names = ", ".join(entry["file"] for entry in report["failed"])
        total = len(given.inputs.files) + len(given.inputs.videos)
        what = "images and videos" if given.inputs.videos else "images"
        failed = f"{len(report['failed'])} of {total} {what} failed"
        again = "" if args.output is None else " (the same command tries them again)"
        print(f"{failed}{again}: {names}", file=sys.stderr)
        return 1
    return 0


def _asked(task: Task, given: Given, args: argparse.Namespace) -> dict[str, Any]:
    """The report; also written, with the pictures, where there is an `args.output`."""
    inputs = given.inputs
    head = {**task.head, "config": args.config_file, "weights": args.weights}
    if args.output is None:
        found = process(task.ask, inputs.files, None, batch_size=task.batch_size, tell=task.tell)
        return {**head, **found, "skipped": inputs.skipped}
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    settings = {
        **task.settings,
        "config": [args.config_file, stamp(resolve_config(args.config_file))],
        "overrides": given.overrides,
        "weights": [args.weights, stamp(str(telling_file(args.weights)))],
    }
    journal = Journal(output / f"{task.name}.jsonl", settings)
    if journal.other_settings:
        changed = ", ".join(journal.other_settings)
        print(f"{journal.path} is of a run with another {changed}: every image is done anew")
    with journal:
        found = process(
            task.ask,
            inputs.files,
            output,
            batch_size=task.batch_size,
            journal=journal,
            tell=task.tell,
        )
    if inputs.videos:
        of_frames = VideoTask(
            task.ask, task.batch_size, settings, args.every, args.track, task.head["threshold"]
        )
        found["videos"], failed = process_videos(of_frames, inputs.videos, output)
        found["failed"] += failed
    report = {**head, **found, "skipped": inputs.skipped}
    path = output / f"{task.name}.json"
    labels = Labels.from_report(report) if task.formats else Labels(())
    with exports(labels, task.formats, output), whole_file(path, "w") as file:
        json.dump(report, file, indent=1)
    pictures = sum(image["picture"] is not None for image in report["images"])
    videos = f", {len(found['videos'])} videos" if inputs.videos else ""
    print(f"wrote {pictures} pictures{videos} and {path}")
    if task.formats:
        print(
            f"wrote in {output}: {', '.join(task.formats)}; paths of images begin in {labels.root}"
        )
    if not report["failed"] and set(journal.entries) <= set(inputs.files):
        journal.path.unlink()  # else another run of this folder is not done
    return report


def _say_skipped(inputs: Inputs, most: int = 10) -> None:
    if inputs.skipped:
        names = ", ".join(inputs.skipped[:most]) + ", ..." * (len(inputs.skipped) > most)
        count = f"{len(inputs.skipped)} skipped, no images by their names"
        print(f"{count} (all are in the report): {names}", file=sys.stderr)
