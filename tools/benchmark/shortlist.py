"""The part shortlist: an image asked for all names of growing vocabularies, and for the best."""

from collections.abc import Callable, Sequence
from itertools import chain, islice
from statistics import median

import torch

from glipv2_d2.modeling.shortlist import Shortlist, require_contrast, shortlisted

from .sides import Bench
from .stages import StageTimer
from .timing import Clock, interleave
from .weights import calibrate
from .workload import LVIS_CHUNK, make_inputs, prompt_names

COUNTS = (64, 1203, 20_000)
ADJECTIVES = (
    "red", "blue", "green", "white", "black", "small", "large", "old", "new", "wooden", "plastic",
    "metal", "round", "square", "striped", "broken",
)  # fmt: skip


def vocabulary(count: int) -> list[str]:
    """LVIS's names, and then these with adjectives, up to 20,451."""
    names = prompt_names("lvis")
    more = (f"{adjective} {name}" for adjective in ADJECTIVES for name in names)
    return list(islice(chain(names, more), count))


def measure_shortlist(bench: Bench, chunks: int, counts: Sequence[int] = COUNTS) -> list[dict]:
    """A row per size of the vocabulary, of one image in float32; the shortlist fills one prompt.

    Masks are left out. What all names take is calculated from `chunks` of the prompts, as in
    `measure_lvis`.

    Raises:
        ConfigError: the model has no contrast.
    """
    require_contrast(bench.model)
    return [_row(bench, chunks, vocabulary(count)) for count in counts]


@torch.no_grad()
def _row(bench: Bench, chunks: int, names: Sequence[str]) -> dict:
    model, settings, clock = bench.model, bench.settings, Clock(bench.settings.device)
    size = model.chunk_size or LVIS_CHUNK
    prompts = model.tokenizer.split(names, size=size)
    (whole,) = make_inputs(settings, prompts)
    some = [{**whole, "prompt": prompts[:chunks], "boxes_only": True}]
    short = [{**whole, "shortlist": Shortlist(size), "boxes_only": True}]
    if settings.weights is None:
        calibrate(model, some, settings.candidates)
    images, timer = model.encode(some), StageTimer(model, clock)
    embedding = clock.time(lambda: model.name_embeddings(model, prompts))
    stages: list[dict[str, float]] = []
    calls: dict[str, Callable[[], object]] = {
        # The prompt of a shortlist is a new one for nearly every image.
        "shortlist": lambda: bench.call("ours-new", short),
        "all": lambda: stages.append(timer.measure(lambda: bench.call("ours", some))),
        "ranking": lambda: shortlisted(model, images, [prompts], [Shortlist(size)]),
    }
    for call in calls.values():  # warm
        call()
    seconds = interleave(calls, settings.repeats, clock)
    once = median(run["Swin"] + run["FPN"] for run in stages[1:])
    per_prompt = (median(run["whole"] for run in stages[1:]) - once) / len(prompts[:chunks])
    everything = once + per_prompt * len(prompts)
    return {
        "names": len(names),
        "prompts": len(prompts),
        "size": size,
        "vocabulary": embedding,
        "seconds": seconds["shortlist"].as_dict(),
        "ranking": seconds["ranking"].median,
        "everything": everything,
        "times_everything": everything / seconds["shortlist"].median,
    }
