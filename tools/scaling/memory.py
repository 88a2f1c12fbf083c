"""The part memory: GiB of a training step on a GPU, counted on tensors without values."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from glipv2_d2.language import Prompt

from ..benchmark import training
from ..benchmark.settings import Settings
from ..benchmark.workers import Worker
from ..benchmark.workload import prompt_names, train_inputs
from .curves import num_positions
from .fake import GIB, fake_model, like_cuda, step_memory

# Bytes for a parameter: itself, its gradient (in DDP's buckets), AdamW's two moments, the average
# (train.ema). Autocast leaves them in float32; its copies in bf16 are counted with the activations.
STATE_BYTES = 4 + 4 + 8 + 4
CARDS = (24, 40, 80, 140)
# Of a card: CUDA's context, NCCL, what the allocator rounds up and cannot use.
RESERVED_GIB = 2.0
RECOMPUTED = {"nothing": False, "blocks": True}
# Megapixels, millions of positions times tokens, thousands of tokens, and what does not grow.
TERMS = ("pixels", "position_tokens", "tokens", "once")
_CHECKPOINTS = ("backbone.bottom_up", "language_backbone", "neck")
# (share of each side, names, images): the first ones are the table, all are fitted.
BATCHES = ((1.0, 80, 1), (1.0, 80, 2), (1.0, 80, 4))
OTHERS = ((1.0, 20, 1), (0.6, 20, 1), (0.6, 80, 1))


def _recomputing(recomputed: str) -> list[str]:
    """Overrides of a config: which activations the backward pass computes anew."""
    value = RECOMPUTED[recomputed]
    return [f"model.{part}.use_checkpoint={value}" for part in _CHECKPOINTS]


def measure_memory(settings: Settings) -> Iterator[dict]:
    """A row per precision and what is recomputed: GiB, and the factors of `_terms`."""
    for precision in ("float32", "bf16"):
        for recomputed in RECOMPUTED:
            yield _row(settings, precision, recomputed)


def _row(settings: Settings, precision: str, recomputed: str) -> dict:
    model = fake_model(settings.config, (*settings.overrides, *_recomputing(recomputed)))
    terms, numbers = [], []
    for share, names, images in (*BATCHES, *OTHERS):
        size = (round(settings.size[0] * share), round(settings.size[1] * share))
        prompt = Prompt.from_classes(prompt_names("coco")[:names])
        inputs = train_inputs(replace(settings, size=size), prompt, images)
        numbers.append(step_memory(model, inputs, like_cuda(precision)))
        terms.append(_terms(size, model.tokenizer.num_tokens(prompt.caption), images))
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    state = STATE_BYTES * parameters / GIB
    factors, worst = _fit(terms, [found.peak for found in numbers])
    one_image = numbers[1].peak - numbers[0].peak
    rest = state + numbers[0].peak - one_image + RESERVED_GIB
    return {
        "model": settings.config,
        "precision": precision,
        "recomputed": recomputed,
        "parameters": parameters / 1e6,
        "state": state,
        **numbers[0]._asdict(),
        **{f"total_{b[2]}": state + found.peak for b, found in zip(BATCHES, numbers)},
        **{f"fits_{card}": max(0, int((card - rest) / one_image)) for card in CARDS},
        **dict(zip(TERMS, factors)),
        "worst": worst,
    }


def _terms(size: tuple[int, int], tokens: int, images: int) -> tuple[float, ...]:
    """What the memory is linear in, see TERMS; all but the last for each image."""
    pixels = size[0] * size[1] / 1e6
    of_image = pixels, num_positions(size) * tokens / 1e6, tokens / 1e3
    return *(images * term for term in of_image), 1.0


def _fit(terms: Sequence[Sequence[float]], values: Sequence[float]) -> tuple[list[float], float]:
    """Factors of the terms by least squares, and the largest relative error of their sum."""
    matrix = np.array(terms)
    factors = np.linalg.lstsq(matrix, np.array(values), rcond=None)[0]
    return factors.tolist(), float(np.max(np.abs(matrix @ factors / values - 1)))


def check_memory(settings: Settings) -> Iterator[dict]:
    """A row per way: counted, and the resident set's peak on this CPU, one image, float32."""
    inputs = train_inputs(settings, Prompt.from_classes(prompt_names("coco")), 1)
    with Worker() as worker:
        worker(training._build, settings, "ours", 1)
        for recomputed, mode in zip(RECOMPUTED, ("none", "block")):
            worker(training._timed, mode, "float32")  # warm-up
            _, measured = worker(training._timed, mode, "float32")
            neck = f"model.neck.use_checkpoint={RECOMPUTED[recomputed]}"
            model = fake_model(settings.config, (*settings.overrides, neck))
            counted = step_memory(model, inputs, nullcontext()).peak
            yield {
                "model": settings.config,
                "size": list(settings.size),
                "recomputed": recomputed,
                "counted": counted,
                "measured": measured,
                "ratio": counted / measured,
            }
