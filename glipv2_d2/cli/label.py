"""`glip label`: find boxes for image-text pairs, or for a data set of questions."""

from __future__ import annotations

import argparse
import glob
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from ..engine.asked import check_fraction
from ..engine.predictor import GroundingPredictor
from ..errors import DataError, UsageError
from ..labeling.drivers import label_here, label_in_processes
from ..labeling.pairs import Shard, find_shards
from ..labeling.ray_driver import label_with_ray
from ..labeling.shards import LabelSettings, ShardSummary, labeled_before
from ..labeling.teacher import GroundingTeacher, fingerprint
from ..language.noun_phrases import noun_phrase_extractor
from . import label_questions
from .detection.command import stoppable

_OF_PAIRS = ("recaption", "columns", "image_root", "rows", "processes", "ray")


@stoppable
def run(args: argparse.Namespace) -> int:
    """Label and write: pairs if there is a `--format`, else questions."""
    given = args.given
    args.overrides = [word for word in given if "=" in word and not os.path.exists(word)]
    args.given = [word for word in given if word not in args.overrides]
    if not args.given:
        raise UsageError(f"nothing is given to label, only values for the config: {given[0]}")
    others = ("register",) if args.format is not None else _OF_PAIRS
    if unused := [name for name in others if getattr(args, name)]:
        kind = "questions, which have no --format" if args.format else "pairs, with a --format"
        raise UsageError(f"--{unused[0].replace('_', '-')} is for {kind}")
    return label_questions.run(args) if args.format is None else _label_pairs(args)


def _label_pairs(args: argparse.Namespace) -> int:
    columns = args.columns or ("path", "caption")
    if len(columns) != 2:
        raise UsageError(f"--columns are two, IMAGE,CAPTION, got {','.join(columns)}")
    threshold = 0.1 if args.threshold is None else args.threshold
    check_fraction("--threshold", threshold)
    noun_phrase_extractor(args.phrases)("a dog")  # one that is not installed is refused now
    shards = find_shards(_files(args.given), args.rows or 1000, args.image_root or "")
    if not shards:
        raise DataError(f"there are no pairs in {', '.join(args.given)}: nothing to label")
    settings = LabelSettings(
        format=args.format,
        threshold=threshold,
        phrases=args.phrases,
        recaption=args.recaption,
        teacher=fingerprint(args.config_file, args.weights, args.overrides),
        columns=list(columns),
    )
    args.output.mkdir(parents=True, exist_ok=True)
    before = labeled_before(shards, args.output, settings)
    if before:
        print(f"{len(before)} of {len(shards)} shards have labels already ({args.output})")
    make = partial(
        load_teacher,
        args.config_file,
        args.weights,
        args.overrides,
        args.device,
        args.batch_size,
        settings,
    )
    if args.ray:
        workers = args.processes or 1
        found = label_with_ray(shards, args.output, make, settings, workers, device=args.device)
    elif args.processes is None:
        found = label_here(shards, args.output, make, settings)
    else:
        found = label_in_processes(shards, args.output, make, settings, args.processes)
    return _summary(list(_told(found, shards, before)))


def _files(given: Sequence[str]) -> list[str]:
    """The files, and those of patterns."""
    files = []
    for word in given:
        found = [word] if os.path.exists(word) else sorted(glob.glob(word))
        if not found:
            raise DataError(f"there is no file {word!r}")
        files += found
    return files


def load_teacher(
    config: str,
    weights: str,
    overrides: Sequence[str],
    device: str,
    batch_size: int,
    settings: LabelSettings,
) -> GroundingTeacher:
    predictor = GroundingPredictor.from_config(
        config, weights, device=device, batch_size=batch_size, overrides=overrides
    )
    return GroundingTeacher(predictor, settings.phrases, settings.threshold, settings.recaption)


def _told(
    found: Iterator[ShardSummary], shards: Sequence[Shard], before: set[str]
) -> Iterator[ShardSummary]:
    """The summaries, with a line for each."""
    start, new, pairs = time.monotonic(), 0, 0
    for done, summary in enumerate(found, 1):
        if summary.failed is not None:
            print(f"failed: {summary.shard}: {summary.failed}", file=sys.stderr, flush=True)
        line = f"[{done}/{len(shards)}] {summary.shard}: {summary.labeled} of {summary.pairs} pairs"
        if summary.shard not in before:
            new, pairs = new + 1, pairs + summary.pairs
            seconds = time.monotonic() - start
            left = timedelta(seconds=round(seconds / new * (len(shards) - done)))
            line += f", {pairs / seconds:.1f} pairs/s, {left} left"
        print(line, flush=True)
        yield summary


def _summary(found: Sequence[ShardSummary]) -> int:
    """Say what all shards have together; returns the exit status."""
    done = [summary for summary in found if summary.failed is None]
    total = {
        name: sum(getattr(summary, name) for summary in done)
        for name in ("pairs", "labeled", "phrases", "boxes", "without_phrase", "without_box")
    }
    print(
        f"{total['labeled']} of {total['pairs']} pairs labeled: {total['phrases']} phrases, "
        f"{total['boxes']} boxes; {total['without_phrase']} captions without a phrase, "
        f"{total['without_box']} images without a box"
    )
    errors = sum((Counter(summary.errors) for summary in done), Counter())
    for kind, count in errors.most_common():
        print(f"{count} x {kind} (named in records.jsonl)", file=sys.stderr)
    failed = [summary.shard for summary in found if summary.failed is not None]
    if failed:
        print(
            f"{len(failed)} of {len(found)} shards failed (the same command tries them again): "
            f"{', '.join(failed)}",
            file=sys.stderr,
        )
    return 1 if failed else 0
