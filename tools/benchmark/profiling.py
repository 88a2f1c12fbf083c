"""The operations that take the time of one call, by torch.profiler."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from .inference import prepared_inputs
from .sides import Bench

OPERATIONS = 15  # in the table; the trace has all


def measure_profile(bench: Bench, kind: str, batch: int, side: str, folder: Path) -> list[dict]:
    """A row per operation, those first that take most of the device's own time.

    Args:
        folder: gets `profile_trace.json.gz`.
    """
    inputs = prepared_inputs(bench, kind, batch)
    cuda = torch.device(bench.settings.device).type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    for _ in range(2):
        bench.call(side, inputs)  # warm, and with prompts seen
    with profile(activities=activities) as profiler:
        bench.call(side, inputs)
        if cuda:
            torch.cuda.synchronize()
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / "profile_trace.json.gz"))
    spent = "self_device_time_total" if cuda else "self_cpu_time_total"  # microseconds
    events = sorted(profiler.key_averages(), key=lambda e: getattr(e, spent), reverse=True)
    whole = sum(getattr(event, spent) for event in events)
    return [
        {
            "side": side,
            "prompt": kind,
            "batch": batch,
            "operation": event.key,
            "calls": event.count,
            "ms": getattr(event, spent) / 1000,
            "share": getattr(event, spent) / whole,
        }
        for event in events[:OPERATIONS]
    ]
