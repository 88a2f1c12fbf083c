"""Wall-clock time of several sides, taken in turns."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Timing(NamedTuple):
    """Seconds of each timed call, in order."""

    runs: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def as_dict(self) -> dict:
        runs = self.runs
        return {"median": self.median, "min": min(runs), "max": max(runs), "runs": runs}


class Clock:
    """Moments on a device; on CUDA they are events, so that taking one does not wait."""

    def __init__(self, device: str):
        self.cuda = torch.device(device).type == "cuda"

    def now(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start, end) -> float:
        """Between two moments; `wait` must have been called on CUDA."""
        return start.elapsed_time(end) / 1000 if self.cuda else end - start

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, call: Callable[[], Any]) -> float:
        """Seconds of one call, from an idle device to an idle device, in wall-clock time."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start


def interleave(
    sides: Mapping[str, Callable[[], Any]], repeats: int, clock: Clock
) -> dict[str, Timing]:
    """Call the sides in turns (A B A B ...), `repeats` times each; they must be warm already.

    In turns, because a machine's speed drifts: neighbors, heat, memory. Garbage is collected
    between the rounds, not in them.
    """
    runs: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        gc.collect()
        for name, call in sides.items():
            runs[name].append(clock.time(call))
    return {name: Timing(seconds) for name, seconds in runs.items()}
