"""`glip detect`: find what a prompt names in images, and write pictures and a json."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint import read_prompt_file
from ..engine.asked import read_negatives
from ..engine.predictor import GroundingPredictor
from ..errors import MissingImageError, UsageError
from ..interop import Labels
from ..interop.formats import refuse_edited
from ..language.prompt import Prompt
from ..language.prompt_text import read_names, read_prompt
from ..language.words import Exemplar, words_of_classes
from ..sources import is_address, stamp
from .detection.command import (
    Task,
    read_given,
    refuse_file_of_names,
    run_task,
    stoppable,
    typed,
)
from .detection.images import detecting, tell_progress


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


class _Seen(NamedTuple):
    """A box of `--exemplar`."""

    file: str
    box: list[float]
    name: str


def _read_exemplars(texts: Sequence[str]) -> dict[str, list[_Seen]]:
    """The boxes of each exemplar, by its name.

    Raises:
        UsageError: one is in another form.
        MissingImageError: a file is not there.
    """
    number = r"\d+(?:\.\d+)?"
    form = re.compile(rf"(.+):({number}(?:,{number}){{3}})(?:=(.+))?")
    exemplars: dict[str, list[_Seen]] = {}
    for text in texts:
        match = form.fullmatch(text)
        if match is None:
            raise UsageError(
                "an exemplar is FILE:x1,y1,x2,y2=NAME, as shelf.jpg:40,60,90,120=bolt, got "
                f"{text!r}"
            )
        file, box, name = match.groups()
        seen = _Seen(file, [float(x) for x in box.split(",")], name or "object")
        if not is_address(file) and not os.path.isfile(file):
            raise MissingImageError(f"there is no image file {file!r} for the exemplar {text!r}")
        exemplars.setdefault(seen.name, []).append(seen)
    return exemplars


def _make_exemplars(
    predictor: GroundingPredictor, exemplars: dict[str, list[_Seen]], words: str
) -> list[Exemplar]:
    known = read_names(words) if words else None
    made = []
    for name, boxes in exemplars.items():
        files = [seen.file for seen in boxes]
        corners = [[seen.box] for seen in boxes]
        of_files = corners if len(files) > 1 else corners[0]
        made.append(predictor.exemplar(files, of_files, name=name, words=known))
    return made


def _names(prompt: Any) -> list[str]:
    prompts: Any = [prompt] if isinstance(prompt, Prompt) else prompt
    made = [name for p in prompts if isinstance(p, Prompt) for name in p.names]
    return made or words_of_classes(prompts)[0]


def _class_names(prompt: Any) -> list[str]:
    """The names of what is asked, in the order of the class ids."""
    items: Any = [prompt] if isinstance(prompt, Prompt) else prompt
    if isinstance(items[0], Prompt):
        asked = [pair for p in items for pair in zip(p.class_ids, p.names)]
        return [name for _, name in sorted(dict(reversed(asked)).items())]
    words = [item if isinstance(item, str | Exemplar) else item[0] for item in items]
    return [word.name if isinstance(word, Exemplar) else word for word in words]


@stoppable
def run(args: argparse.Namespace) -> int:
    """Detect and write."""
    args.prompt, args.negatives = typed(args.prompt), typed(args.negatives)
    given = read_given(args, "detections")
    output = Path(args.output)
    if args.formats and given.inputs.videos:
        raise UsageError("--format is for images: a video's detections are in NAME.frames.jsonl")
    refuse_edited(args.formats, output, output / "detections.json")
    exemplars = _read_exemplars([typed(text) for text in args.exemplar])
    tuned = args.prompt.endswith(".safetensors")
    if not tuned:
        refuse_file_of_names("--prompt", args.prompt)
    refuse_file_of_names("--negatives", args.negatives)
    refuse_file_of_names("--exemplar-words", args.exemplar_words)
    if args.exemplar_words and not exemplars:
        raise UsageError("--exemplar-words goes with --exemplar")
    prompt: Any
    # What cannot be asked is refused now, not once the model is there.
    if tuned:
        prompt, kind = read_prompt_file(args.prompt).prompts, "tuned"
    else:
        nothing = exemplars and not args.prompt
        prompt = [] if nothing else read_prompt(args.prompt, args.kind, args.phrases)
        kind = prompt.kind if isinstance(prompt, Prompt) else "classes"
    negatives = read_negatives(args.negatives, _names(prompt))
    if exemplars and kind != "classes":
        raise UsageError("--exemplar goes with class names in --prompt, or with none")
    predictor = _predictor(args, given.overrides)
    if tuned:
        prompt = predictor.load_prompt(args.prompt)
    if exemplars:
        prompt = [*prompt, *_make_exemplars(predictor, exemplars, typed(args.exemplar_words))]
    names = _class_names(prompt)
    if args.formats:
        Labels((), names)  # refuses names that no label file can hold, before images are read
    threshold = predictor.score_threshold
    task = Task(
        name="detections",
        ask=detecting(predictor, prompt, negatives, args.tile),
        settings={
            "prompt": [args.prompt, stamp(args.prompt)] if tuned else args.prompt,
            "negatives": args.negatives,
            "exemplars": [[*seen, stamp(seen.file)] for of in exemplars.values() for seen in of],
            "exemplar_words": args.exemplar_words,
            "kind": args.kind,
            "phrases": args.phrases,
            "threshold": threshold,
            "merge_iou": predictor.merge_iou,
            "tta": args.tta,
            "tile": args.tile,
        },
        head={
            "prompt": args.prompt,
            "negatives": args.negatives,
            "exemplars": list(args.exemplar),
            "kind": kind,
            "names": names,
            "threshold": threshold,
        },
        batch_size=predictor.batch_size,
        tell=tell_progress,
        formats=args.formats,
    )
    return run_task(task, given, args)
