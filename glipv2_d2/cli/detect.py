"""`glip detect`: find what a prompt names in images, and write pictures and a json."""

import argparse

from ..checkpoint import read_prompt_file
from ..engine.asked import PromptLike, read_negatives
from ..engine.predictor import GroundingPredictor
from ..language.prompt import ClassNames, Prompt, words_of_classes
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


def _names(prompt: Prompt | ClassNames | list[Prompt]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, Prompt) else prompt
    made = [name for p in prompts if isinstance(p, Prompt) for name in p.names]
    return made or words_of_classes(prompts)[0]


@stoppable
def run(args: argparse.Namespace) -> int:
    """Detect and write."""
    args.prompt, args.negatives = typed(args.prompt), typed(args.negatives)
    given = read_given(args)
    tuned = args.prompt.endswith(".safetensors")
    prompt: PromptLike
    # What cannot be asked is refused now, not once the model is there.
    if tuned:
        prompt, kind = read_prompt_file(args.prompt).prompts, "tuned"
    else:
        prompt = read_prompt(args.prompt, args.kind, args.phrases)
        kind = prompt.kind if isinstance(prompt, Prompt) else "classes"
    negatives = read_negatives(args.negatives, _names(prompt))
    predictor = _predictor(args, given.overrides)
    if tuned:
        prompt = predictor.load_prompt(args.prompt)
    threshold = predictor.score_threshold
    task = Task(
        name="detections",
        ask=detecting(predictor, prompt, negatives),
        settings={
            "prompt": [args.prompt, stamp(args.prompt)] if tuned else args.prompt,
            "negatives": args.negatives,
            "kind": args.kind,
            "phrases": args.phrases,
            "threshold": threshold,
            "merge_iou": predictor.merge_iou,
            "tta": args.tta,
        },
        head={
            "prompt": args.prompt,
            "negatives": args.negatives,
            "kind": kind,
            "threshold": threshold,
        },
        batch_size=predictor.batch_size,
        tell=tell_progress,
    )
    return run_task(task, given, args)
