"""Random numbers that depend on where a run is, and not on what it drew before."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["drawn_again", "seed", "seeded"]


def seed(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch on all devices; other numbers give unrelated streams."""
    torch.manual_seed(_seed_cpu_libraries(numbers))


@contextmanager
def drawn_again(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """What is drawn within this context, on the CPU and on these GPUs, is drawn again after it."""
    # NumPy's global generator is the one that Detectron2's augmentations draw from.
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(list(devices)):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Within this context, what is drawn on the CPU follows from the numbers; then as before."""
    with drawn_again():
        # Not `torch.manual_seed`, which would reach for the GPUs, from data workers too.
        torch.default_generator.manual_seed(_seed_cpu_libraries(numbers))
        yield


def _seed_cpu_libraries(numbers: tuple[int, ...]) -> int:
    """Seed Python and NumPy; returns a seed for PyTorch."""
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])  # noqa: NPY002
    return int(words[3])
