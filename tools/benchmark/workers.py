"""A process for each side, so that its peak memory is its own."""

import ctypes
import multiprocessing
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from .machine import linux_memory

CLEAR = Path("/proc/self/clear_refs")


class OutOfMemory(RuntimeError):
    """The measured call did not fit into the memory it was given."""


class PeakMemory:
    """Peak memory of what happens between construction and `gb`, above what was there before.

    CUDA: what PyTorch allocated. CPU: the resident set, whose peak Linux lets us reset; elsewhere,
    or where that is forbidden, the peak since the process began, and `exact` is False.
    """

    def __init__(self, device: str):
        self.device = device
        self.cuda = torch.device(device).type == "cuda"
        self.exact = True
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        return_free_memory()
        try:
            CLEAR.write_text("5")  # the peak of the resident set begins anew
        except OSError:
            self.exact = False
        self.before = _resident("VmRSS")

    def gb(self) -> float:
        """GiB above the start."""
        peak = torch.cuda.max_memory_allocated() if self.cuda else _resident("VmHWM")
        return (peak - self.before) / 2**30


def return_free_memory() -> None:
    """Give back what the C library keeps of freed memory: it would hide a later peak, and a
    process that idles would keep it from the others.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library


def _resident(key: str) -> int:
    """VmRSS or VmHWM in bytes."""
    if told := linux_memory(key, "/proc/self/status"):
        return told
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory_gb() -> float | None:
    """GiB that a new process may take without swapping; None where Linux does not tell."""
    available = linux_memory("MemAvailable")
    return available and available / 2**30


class Worker:
    """A fresh process that runs functions one after the other.

    Functions and arguments must be picklable; what they need to keep between calls they keep in
    their own module. On CPU the process may not take more than `limit_gb`, so that a training step
    that does not fit fails instead of taking the machine with it.
    """

    def __init__(self, limit_gb: float | None = None):
        self._pool = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_limit_memory,
            initargs=(limit_gb,),
        )

    def __call__(self, function, *args):
        """The function's result, or its exception.

        Raises:
            OutOfMemory: the memory did not suffice.
        """
        try:
            return self._pool.submit(function, *args).result()
        except (MemoryError, torch.cuda.OutOfMemoryError) as error:
            raise OutOfMemory(_first_line(error)) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error) or isinstance(error, BrokenProcessPool):
                raise OutOfMemory(_first_line(error)) from error
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()


def _limit_memory(limit_gb: float | None) -> None:
    if limit_gb is not None:
        limit = int(limit_gb * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
