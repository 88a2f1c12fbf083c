"""The part processes: what the all-reduce of DDP adds to a training step, measured and modeled."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm

from glipv2_d2.compat import create_ddp_model, launch
from glipv2_d2.errors import UsageError
from glipv2_d2.language import Prompt

from ..benchmark.flops import count_flops
from ..benchmark.settings import Settings, build_model
from ..benchmark.timing import Clock, interleave
from ..benchmark.workload import prompt_names, train_inputs
from .fake import fake_model

# Bytes per second of a ring through the link, one way, and how many GPUs it joins: an H100's NVLink
# (450 GB/s), and cards that serve the eight GPUs of a machine; some 20 and 10 % less than named.
LINKS = {
    "NVLink": (360e9, (2, 8)),
    "InfiniBand, 400 Gbit/s": (45e9, (16, 64)),
    "Ethernet, 100 Gbit/s": (11e9, (16, 64)),
    "Ethernet, 25 Gbit/s": (2.8e9, (16, 64)),
}
BUCKET_BYTES = 25 * 2**20  # PyTorch's default
BACKWARD_SHARE = 2 / 3  # of a step's work: every product has two in the backward pass


def exposed_all_reduce(
    compute: float, gradient_bytes: float, bandwidth: float, processes: int
) -> float:
    """Seconds of a DDP step in which it waits for the all-reduce of its gradients.

    A ring sends 2 (N-1) / N of the bytes through its slowest link. The k buckets become full evenly
    over the backward pass, and are reduced one after another: behind it there is at least the last
    bucket; where the link is slower than the backward pass, all that did not fit beside it.

    Args:
        compute: seconds of forward and backward pass.
        gradient_bytes: of all gradients.
        bandwidth: bytes per second that a process gets through the slowest link, one way.
    """
    buckets = max(1, round(gradient_bytes / BUCKET_BYTES))
    ring = 2 * (processes - 1) / processes * gradient_bytes / bandwidth
    beside = BACKWARD_SHARE * compute * (buckets - 1) / buckets
    return max(ring / buckets, ring - beside)


def predict(settings: Settings, batch: int, flops: float) -> Iterator[dict[str, Any]]:
    """A row per link and number of GPUs: step time by `exposed_all_reduce`.

    Args:
        batch: images of a GPU. flops: of a GPU, per second.
    """
    model = fake_model(settings.config, settings.overrides)
    inputs = train_inputs(settings, Prompt.from_classes(prompt_names("coco")), batch)
    work = count_flops(lambda: sum(model(inputs).values()).backward())["total"] * 1e9
    size = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    compute = work / flops
    for link, (bandwidth, counts) in LINKS.items():
        for count in counts:
            step = compute + exposed_all_reduce(compute, size, bandwidth, count)
            yield {
                "model": settings.config,
                "tflop": work / 1e12,
                "gradient_gb": size / 1e9,
                "compute": compute,
                "link": link,
                "processes": count,
                "step": step,
                "efficiency": compute / step,
            }


def measure_processes(settings: Settings, batch: int, processes: int) -> dict[str, Any]:
    """One row: seconds of a step with and without all-reduce, and of the all-reduce alone.

    Raises:
        UsageError: one process has nothing to reduce.
    """
    if processes < 2:
        raise UsageError("one process has no gradients to reduce: give --processes 2 or more")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        arguments = settings, batch, str(report)
        launch(_measure, 0, num_processes=processes, dist_url="auto", args=arguments)
        seconds = json.loads(report.read_text(encoding="utf-8"))
    size = seconds.pop("bytes")
    added = seconds["step"] - seconds["no_sync"]
    bandwidth = 2 * (processes - 1) / processes * size / seconds["all_reduce"]
    return {
        "model": settings.config,
        "processes": processes,
        "batch": batch,
        "gradient_mb": size / 1e6,
        **seconds,
        "share": added / seconds["step"],
        "bandwidth_gb": bandwidth / 1e9,
        "predicted": seconds["no_sync"]
        + exposed_all_reduce(seconds["no_sync"], size, bandwidth, processes),
    }


def _measure(settings: Settings, batch: int, report: str) -> None:
    """In each process: three kinds of calls in turns; the first process writes their medians."""
    torch.manual_seed(settings.seed)
    model = build_model(settings).train()
    ddp = create_ddp_model(model, broadcast_buffers=False)
    prompt = Prompt.from_classes(prompt_names("coco"))
    inputs = train_inputs(settings, prompt, batch)
    trained = [p for p in model.parameters() if p.requires_grad]
    size = sum(p.numel() * p.element_size() for p in trained)
    buckets = torch.zeros(size // 4).split(BUCKET_BYTES // 4)

    def step(context) -> None:
        comm.synchronize()  # the slowest process counts for all
        with context():
            sum(ddp(inputs).values()).backward()

    def reduce() -> None:
        comm.synchronize()
        for work in [dist.all_reduce(bucket, async_op=True) for bucket in buckets]:
            work.wait()

    calls = {
        "step": lambda: step(nullcontext),
        "no_sync": lambda: step(ddp.no_sync),
        "all_reduce": reduce,
    }
    for call in calls.values():
        call()  # warm; DDP orders its buckets anew after the first step
    timings = interleave(calls, settings.repeats, Clock(settings.device))
    if comm.is_main_process():
        medians = {name: timing.median for name, timing in timings.items()}
        Path(report).write_text(json.dumps({**medians, "bytes": size}), encoding="utf-8")
