"""The machine a number was measured on, and the fastest matrix product that it manages."""

import os
import platform
import re
from pathlib import Path

import torch

from glipv2_d2.compat import PRECISIONS

from .timing import Clock

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_machine(device: str, threads: int) -> dict:
    """Names and versions; all of them plain values, for a JSON file."""
    info = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", info, re.MULTILINE)
    flags = set(flags.group(1).split()) if flags else set()
    memory = linux_memory("MemTotal")
    machine = {
        "cpu": model.group(1).strip() if model else platform.processor() or platform.machine(),
        "cores": available_cores(),
        "threads": threads,
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "memory_gb": memory and round(memory / 2**30, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
    }
    if torch.device(device).type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def matmul_peak(device: str, precision: str) -> float:
    """GFLOP/s of the best of several products of square matrices."""
    cuda = torch.device(device).type == "cuda"
    seconds = 0.3 if cuda else 2.0  # a GPU does some hundred products in that time
    dtype = PRECISIONS.get(precision, torch.float32)
    clock, best = Clock(device), 0.0
    sides = (4096, 8192) if cuda else (1024, 2048)
    for side in sides:
        a = torch.randn(side, side, device=device).to(dtype)
        b = torch.randn(side, side, device=device).to(dtype)
        clock.time(lambda a=a, b=b: a @ b)  # warm-up
        spent = 0.0
        while spent < seconds / len(sides):
            once = clock.time(lambda a=a, b=b: a @ b)
            best = max(best, 2 * side**3 / once / 1e9)
            spent += once
    return best


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def linux_memory(key: str, path: str = "/proc/meminfo") -> int | None:
    """Bytes that a file of /proc has at a key; None where Linux does not tell."""
    found = re.search(rf"^{key}:\s*(\d+) kB", _read(path), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None
