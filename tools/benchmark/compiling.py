"""torch.compile of backbone and neck over a list of image sizes: time, and graphs compiled."""

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace

import torch

from glipv2_d2.errors import ConfigError

from .agreement import recorded_heads
from .inference import prepared_inputs
from .settings import Settings, build_model
from .sides import Bench
from .timing import Clock
from .workers import Worker


def measure_compile(
    settings: Settings, kind: str, sizes: Sequence[tuple[int, int]], precision: str
) -> list[dict]:
    """A row per image size: eager and compiled seconds, the first call, graphs compiled so far.

    Raises:
        ConfigError: no C++ compiler, which torch.compile needs on the CPU.
    """
    on_cpu = torch.device(settings.device).type == "cpu"
    if on_cpu and not any(map(shutil.which, ("g++", "clang++"))):
        raise ConfigError("torch.compile needs a C++ compiler on the CPU: install g++ or clang++")
    with Worker() as worker:
        return worker(_measure, settings, kind, list(sizes), precision)


def _measure(settings, kind, sizes, precision) -> list[dict]:
    from torch._dynamo.utils import counters

    settings.prepare()
    model = build_model(settings)
    side = "ours" if precision == "float32" else "ours-bf16"
    clock = Clock(settings.device)
    cases = [Bench(replace(settings, size=size), model) for size in sizes]
    inputs = [prepared_inputs(bench, kind, 1) for bench in cases]
    rows = []
    for bench, x, size in zip(cases, inputs, sizes):
        with recorded_heads(model) as heads:
            bench.call(side, x)
        eager = [clock.time(lambda b=bench, x=x: b.call(side, x)) for _ in range(settings.repeats)]
        rows.append({"size": list(size), "prompt": kind, "precision": precision, "eager": eager})
        rows[-1]["heads"] = heads
    model.backbone.compile(dynamic=True)
    model.neck.compile(dynamic=True)
    for row, bench, x in zip(rows, cases, inputs):
        before = counters["stats"]["unique_graphs"]
        row["first_call"] = clock.time(lambda b=bench, x=x: b.call(side, x))
        row["new_graphs"] = counters["stats"]["unique_graphs"] - before
        runs = [clock.time(lambda b=bench, x=x: b.call(side, x)) for _ in range(settings.repeats)]
        row["compiled"] = runs
        with recorded_heads(model) as heads:
            bench.call(side, x)
        difference = (heads[0].logits - row.pop("heads")[0].logits).abs().max()
        row["largest_difference"] = float(difference)
        row["times_eager"] = statistics.median(row["eager"]) / statistics.median(runs)
    breaks = sum(counters["graph_break"].values())
    return [row | {"graph_breaks": breaks} for row in rows]
