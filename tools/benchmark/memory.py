"""Peak memory of inference, each side in a process of its own."""

from collections.abc import Sequence

import torch

from .inference import prepared_inputs
from .settings import Settings, build_model
from .sides import SIDES, Bench
from .workers import OutOfMemory, PeakMemory, Worker

_BENCH: Bench | None = None  # of a worker process


def _build(settings: Settings) -> None:
    """In the worker."""
    global _BENCH
    settings.prepare()
    _BENCH = Bench(settings, build_model(settings))


def _infer(side: str, kind: str, batch: int) -> dict:
    """In the worker: the peak of one call with a new prompt, and the size of the weights."""
    inputs = prepared_inputs(_BENCH, kind, batch)
    module = _BENCH.module(side)  # Grounding DINO is built here, not in the call
    if side.startswith("gdino"):
        _BENCH.model.to("meta")
    _BENCH.model.text_cache.clear()
    weights = sum(p.numel() * p.element_size() for p in module.parameters()) / 2**30
    peak = PeakMemory(_BENCH.settings.device)
    _BENCH.call(side, inputs)
    return {"peak_gb": peak.gb(), "exact": peak.exact, "weights_gb": weights}


def measure_memory(
    settings: Settings, kind: str, batch: int, sides: Sequence[str], limit_gb: float | None
) -> list[dict]:
    """A row per side, for one kind of prompt; a process may take `limit_gb` on the CPU."""
    rows = []
    limit = None if torch.device(settings.device).type == "cuda" else limit_gb
    for side in sides:
        row = {"side": side, "what": SIDES[side], "prompt": kind, "batch": batch}
        with Worker(limit) as worker:
            worker(_build, settings)
            try:
                row |= worker(_infer, side, kind, batch)
            except OutOfMemory as error:
                row |= {"peak_gb": None, "limit_gb": limit, "problem": str(error)}
        rows.append(row)
    return rows
