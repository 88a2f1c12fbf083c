"""`glip caption`: write a caption of each image, and find what it speaks of."""

import argparse
from dataclasses import asdict, replace

from ..engine.predictor import GroundingPredictor
from ..engine.results import Caption
from ..language.prompt import Prompt
from ..modeling.generation import Decoding
from ..modeling.heads import WritingHead
from .detection.command import Task, read_given, run_task, stoppable, text_predictor, typed
from .detection.images import Ask, Found, tell_field


@stoppable
def run(args: argparse.Namespace) -> int:
    """Write captions, and what they speak of."""
    beginning = typed(args.beginning)
    given = read_given(args, "captions")
    fields = _fields(args)
    # These refuse now, not once the model is there; whose own decoding may sample, with any seed.
    Prompt.unwritten(beginning)
    Decoding(**{name: value for name, value in fields.items() if name != "seed"})
    predictor = text_predictor(args, given.overrides)
    decoding = replace(_default(predictor), **fields)
    head = {
        "beginning": beginning,
        "decoding": asdict(decoding),
        "threshold": predictor.phrase_threshold,
    }
    task = Task(
        name="captions",
        ask=captioning(predictor, beginning, decoding),
        settings={**head, "phrases": args.phrases},
        head=head,
        batch_size=predictor.batch_size,
        tell=tell_field("caption"),
    )
    return run_task(task, given, args, args.json)


def captioning(
    predictor: GroundingPredictor, beginning: str = "", decoding: Decoding | None = None
) -> Ask:
    """Writes captions of images."""
    return lambda images: [
        _found(caption) for caption in predictor.caption(images, beginning, decoding=decoding)
    ]


def _fields(args: argparse.Namespace) -> dict:
    """The fields of a Decoding that the command line says."""
    names = ("beam_size", "max_length", "top_p", "seed")
    fields = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return {"beam_size": 1, **fields} if args.top_p is not None else fields  # no beams are sampled


def _default(predictor: GroundingPredictor) -> Decoding:
    heads = predictor.glip.heads_of(WritingHead)
    return heads[0].decoding if heads else Decoding()  # that there is none is said when it is asked


def _found(caption: Caption) -> Found:
    fields = {"caption": caption.caption, "caption_score": round(caption.score, 4)}
    return Found(caption.instances, fields, [caption.words])
