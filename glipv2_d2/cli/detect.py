"""`glip detect`: find what a prompt names in images, and write pictures and a json."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from ..checkpoint import read_prompt_file
from ..engine.asked import PromptLike, prompts_per_image
from ..engine.predictor import GroundingPredictor
from ..interop import Labels
from ..interop.formats import refuse_edited
from ..language.prompt import Prompt
from ..language.prompt_text import read_prompt
from .detection.command import Task, read_given, run_task, stoppable, typed
from .detection.images import detecting, tell_progress
from .detection.inputs import stamp


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


def _class_names(prompts: Iterable[Prompt]) -> list[str]:
    """Of what one image is asked, in the order of the class ids."""
    asked = [pair for prompt in prompts for pair in zip(prompt.class_ids, prompt.names)]
    return [name for _, name in sorted(dict(reversed(asked)).items())]


@stoppable
def run(args: argparse.Namespace) -> int:
    """Detect and write."""
    args.prompt = typed(args.prompt)
    given = read_given(args)
    output = Path(args.output)
    refuse_edited(args.formats, output, output / "detections.json")
    tuned = args.prompt.endswith(".safetensors")
    prompt: PromptLike
    kind = "tuned"
    if tuned:
        read_prompt_file(args.prompt)  # refuses now, not once the model is there
    else:
        prompt = read_prompt(args.prompt, args.kind, args.phrases)
        kind = prompt.kind if isinstance(prompt, Prompt) else "classes"
    predictor = _predictor(args, given.overrides)
    if tuned:
        prompt = predictor.load_prompt(args.prompt)
    names = _class_names(prompts_per_image(prompt, 1, predictor.glip, predictor.phrases)[0])
    if args.formats:
        Labels((), names)  # refuses names that no label file can hold, before images are read
    threshold = predictor.score_threshold
    task = Task(
        name="detections",
        ask=detecting(predictor, prompt),
        settings={
            "prompt": [args.prompt, stamp(args.prompt)] if tuned else args.prompt,
            "kind": args.kind,
            "phrases": args.phrases,
            "threshold": threshold,
            "merge_iou": predictor.merge_iou,
            "tta": args.tta,
        },
        head={
            "prompt": args.prompt,
            "kind": kind,
            "names": names,
            "threshold": threshold,
        },
        batch_size=predictor.batch_size,
        tell=tell_progress,
        formats=args.formats,
    )
    return run_task(task, given, args)
