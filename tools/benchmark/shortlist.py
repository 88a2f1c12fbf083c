"""The part shortlist: an image asked for all names of growing vocabularies, and for the best."""

from collections.abc import Sequence
from itertools import chain, islice
from statistics import median

import torch

from glipv2_d2.modeling.shortlist import Shortlist, require_contrast, shortlisted

from .sides import Bench
from .stages import StageTimer
from .timing import Clock, Timing
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
    everything: list[dict[str, float]] = []
    shortened: list[dict[str, float]] = []
    ranking: list[float] = []
    for _ in range(settings.repeats + 1):
        everything.append(timer.measure(lambda: bench.call("ours", some)))
        # The prompt of a shortlist is a new one for nearly every image.
        shortened.append(timer.measure(lambda: bench.call("ours-new", short)))
        ranking.append(clock.time(lambda: shortlisted(model, images, [prompts], [Shortlist(size)])))
    # The first round warmed up.
    once = median(run["Swin"] + run["FPN"] for run in everything[1:])
    per_prompt = (median(run["whole"] for run in everything[1:]) - once) / len(prompts[:chunks])
    seconds = Timing([run["whole"] for run in shortened[1:]])
    all_names = once + per_prompt * len(prompts)
    return {
        "names": len(names),
        "prompts": len(prompts),
        "shortlist": size,
        "vocabulary": embedding,
        "seconds": seconds.as_dict(),
        "ranking": median(ranking[1:]),
        "text": median(run["text"] for run in shortened[1:]),
        "all_names": all_names,
        "times_all_names": all_names / seconds.median,
    }
