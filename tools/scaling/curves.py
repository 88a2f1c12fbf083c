"""The part curves: work and time over image size, tokens, images and names, with exponents."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from glipv2_d2.language import Prompt
from glipv2_d2.modeling import GLIP, blocks

from ..benchmark.flops import count_flops
from ..benchmark.settings import Settings, build_model
from ..benchmark.timing import Clock, interleave
from ..benchmark.weights import calibrate
from ..benchmark.workload import LVIS_CHUNK, make_inputs, prompt_names, train_inputs
from .fake import fake_model

# Axis -> its points: shares of each side, names in one prompt, images, names in prompts of 40.
AXES: dict[str, Sequence[Any]] = {
    "positions": (0.5, 0.7, 1.0, 1.4),
    "tokens": (5, 10, 20, 40, 80),
    "images": (1, 2, 4),
    "names": (40, 160, 640, 1203),
}
BASE_NAMES = 20  # of the points of other axes
STRIDES = (8, 16, 32, 64, 128)


def measure_curves(settings: Settings) -> Iterator[dict]:
    """A row per axis, in inference and in a training step; `settings.repeats=0`: nothing is timed.

    Its `values` are what the axis counts at each point (positions of the pyramid, tokens of the
    prompt, ...), `gflop` the work; exponents are slopes of straight lines through the logarithms.
    """
    fake = fake_model(settings.config, settings.overrides)
    real = build_model(settings) if settings.repeats else None
    for trained in (False, True):
        for axis in AXES:
            if not (trained and axis == "names"):  # training takes one prompt
                yield _curve(settings, axis, trained, fake, real)


def _curve(
    settings: Settings, axis: str, trained: bool, fake: GLIP, real: nn.Module | None
) -> dict:
    points = [_point(settings, axis, value, trained, fake) for value in AXES[axis]]
    values = [value for value, _ in points]
    # The same work in fewer calls: in blocks for a cache, fake tensors take minutes.
    with patch.object(blocks, "CPU_BLOCK_VALUES", sys.maxsize):
        work = [count_flops(_call(fake, inputs, trained))["total"] for _, inputs in points]
    row: dict[str, Any] = {
        "axis": axis,
        "what": "training step" if trained else "inference",
        "values": values,
        "gflop": [float(f"{gflop:.4g}") for gflop in work],
        "work": exponent(values, work),
    }
    if real is not None:
        calls = {str(v): _call(real, inputs, trained) for v, inputs in points}
        if not trained:
            calibrate(real, points[-1][1], settings.candidates)
        for call in calls.values():  # warm
            call()
        timings = interleave(calls, settings.repeats, Clock(settings.device))
        row["seconds"] = [float(f"{timing.median:.3g}") for timing in timings.values()]
        row["time"] = exponent(values, row["seconds"])
    return row


def _point(
    settings: Settings, axis: str, value: Any, trained: bool, model: GLIP
) -> tuple[int, list[dict]]:
    """What the axis counts at one of its points, and the inputs there."""
    names = prompt_names("lvis" if axis == "names" else "coco")
    share = value if axis == "positions" else 1.0
    sides = [round(side * share / 32) * 32 for side in settings.size]
    size = (sides[0], sides[1])
    prompt: Any = Prompt.from_classes(names[: value if axis == "tokens" else BASE_NAMES])
    tokens = model.tokenizer.num_tokens(prompt.caption)
    if axis == "names":
        prompt = model.tokenizer.split(names[:value], size=LVIS_CHUNK)
    images = value if axis == "images" else 1
    counted = {"positions": num_positions(size), "tokens": tokens}.get(axis, value)
    make = train_inputs if trained else make_inputs
    return counted, make(replace(settings, size=size), prompt, images)


def _call(model: nn.Module, inputs: list[dict], trained: bool) -> Callable[[], None]:
    def call() -> None:
        model.train(trained)  # which clears the cache of prompts
        with torch.set_grad_enabled(trained):
            output = model(inputs)
        if trained:
            model.zero_grad()
            sum(output.values()).backward()

    return call


def num_positions(size: tuple[int, int]) -> int:
    """N of all levels of the pyramid."""
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in STRIDES)


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """k of costs = c * values^k, by least squares of the logarithms."""
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])
