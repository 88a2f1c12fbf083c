"""`glip caption`: write a caption of each image, and find what it speaks of."""

import argparse
from dataclasses import asdict, replace

import numpy as np

from ..engine.predictor import GroundingPredictor
from ..engine.results import Caption
from ..modeling.generation import Decoding
from ..modeling.heads import WritingHead
from .detection.command import Task, read_images, run_task, stoppable, text_predictor, typed
from .detection.drawing import colored_words
from .detection.images import Found, tell_field


@stoppable
def run(args: argparse.Namespace) -> int:
    """Write captions, and what they speak of."""
    beginning = typed(args.beginning)
    images = read_images(args)
    given = _given(args)
    Decoding(**given)  # refuses now, not once the model is there
    predictor = text_predictor(args, images.overrides)
    decoding = replace(_default(predictor), **given)

    def ask(pixels: list[np.ndarray]) -> list[Found]:
        return [
            found_of_caption(x) for x in predictor.caption(pixels, beginning, decoding=decoding)
        ]

    head = {
        "beginning": beginning,
        "decoding": asdict(decoding),
        "threshold": predictor.phrase_threshold,
    }
    task = Task(
        name="captions",
        ask=ask,
        settings={**head, "phrases": args.phrases},
        head=head,
        batch_size=predictor.batch_size,
        tell=tell_field("caption"),
    )
    return run_task(task, images, args, args.json)


def _given(args: argparse.Namespace) -> dict:
    """The fields of a Decoding that the command line says."""
    fields = ("beam_size", "max_length", "top_p", "seed")
    given = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    return {"beam_size": 1, **given} if args.top_p is not None else given  # no beams are sampled


def _default(predictor: GroundingPredictor) -> Decoding:
    heads = predictor.glip.heads_of(WritingHead)
    return heads[0].decoding if heads else Decoding()  # that there is none is said when it is asked


def found_of_caption(caption: Caption) -> Found:
    """What the report and the picture get of a caption."""
    fields = {"caption": caption.caption, "caption_score": round(caption.score, 4)}
    words = colored_words(caption.prompt, caption.instances)
    return Found(caption.instances, fields, [words])
