"""What the processes of a training share, and the micro-batches of one process."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.utils import comm
from torch import nn
from torch.autograd.function import once_differentiable

__all__ = [
    "MicroBatches",
    "gather_rows",
    "join_rows",
    "mean_over_processes",
    "of_micro_batches",
    "share_buffers",
    "whole_batch",
]

Told = TypeVar("Told")


@dataclass
class _Turn:
    """The micro-batch that goes through the model now; see `MicroBatches`.

    Attributes:
        batch: the inputs of all micro-batches.
        told: what each has told so far, in the order of its calls.
        index: of this one. call: the number of its next call.
        telling: the first of its two turns.
    """

    batch: list[dict]
    told: list[list[Any]]
    index: int
    telling: bool
    call: int = 0


_TURN: ContextVar[_Turn | None] = ContextVar("turn of a micro-batch", default=None)


class MicroBatches:
    """The batch of one process in parts that go through the model one after another.

    Micro-batches are to each other as processes are: each has losses of its own, whose mean is the
    loss of the whole batch, and what a loss counts or compares over the processes it counts and
    compares over them, too. But the first one cannot know yet what the last one has. So each has
    two turns, as in GradCache (Gao et al. 2021): in the first, without gradients, it tells what it
    has (`of_micro_batches`), in the second it learns. This costs another forward pass; the memory
    of activations is that of one micro-batch. Both turns must draw the same random numbers.

    Args:
        batch: inputs of the model.
        count: of the micro-batches, which differ by one input at most; no more than inputs.
    """

    def __init__(self, batch: list[dict], count: int):
        self.batch = batch
        count = min(count, len(batch))
        ends = [len(batch) * (i + 1) // count for i in range(count)]
        self.parts = [batch[start:end] for start, end in zip([0, *ends], ends)]
        self._told: list[list[Any]] = [[] for _ in self.parts]

    def __len__(self) -> int:
        return len(self.parts)

    @contextmanager
    def turn(self, index: int, *, telling: bool) -> Iterator[list[dict]]:
        """One turn of a micro-batch; its inputs, for the model to be called with inside."""
        before = _TURN.set(_Turn(self.batch, self._told, index, telling))
        try:
            yield self.parts[index]
        finally:
            _TURN.reset(before)


def whole_batch(inputs: list[dict]) -> list[dict]:
    """The inputs of this process's batch, of which those that the model has got may be a part."""
    turn = _TURN.get()
    return inputs if turn is None else turn.batch


def of_micro_batches(own: Told) -> list[Told]:
    """What each micro-batch of this process has at this place, in order; its own among it.

    All must come to the same places in the same order. What the others have is out of the graph.
    """
    turn = _TURN.get()
    if turn is None:
        return [own]
    if turn.telling:
        turn.told[turn.index].append(own)
        return [own]
    everyone = [told[turn.call] for told in turn.told] if len(turn.told) > 1 else [own]
    everyone[turn.index] = own
    turn.call += 1
    return everyone


def join_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows (n, ...) of all micro-batches of this process, n may differ between them.

    For a loss that each of M micro-batches computes as a whole. A row is in the graph of one of
    these M only, the mean of which is taken, so its gradient is multiplied by M.
    """
    own = rows.view_as(rows)
    parts = of_micro_batches(own)
    if own.requires_grad and len(parts) > 1:
        own.register_hook(lambda gradient: gradient * len(parts))
    return torch.cat(parts)


def mean_over_processes(value: torch.Tensor, least: float = 0.0) -> torch.Tensor:
    """Average of numbers over the processes, so that N equal one with N times the batch.

    Micro-batches are averaged over as processes are.

    Args:
        value: of the inputs that the model has got; of any shape.
        least: the averages over the processes are at least this.
    """
    parts = of_micro_batches(value.detach())
    total = torch.stack(parts).sum(dim=0)
    world = comm.get_world_size()
    if world > 1:
        dist.all_reduce(total)
    return (total / world).clamp(min=least) / len(parts)


def share_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of the first, in place; all of them call it together.

    Those of BatchNorm follow the images that a process has seen.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def gather_rows(rows: torch.Tensor) -> list[torch.Tensor]:
    """The rows of every process, in the order of their ranks; the own ones among them.

    Gradients flow back to where the rows came from: that of a process' rows is the sum of what all
    processes have for them, so every process must run the backward pass, and gather in the same
    order as the others.

    Args:
        rows: (n, ...), n may differ between the processes, the rest may not.
    """
    if comm.get_world_size() == 1:
        return [rows]
    size = torch.tensor([len(rows)], device=rows.device)
    sizes = torch.stack(_all_gather(size)).flatten().tolist()
    padding = (0, 0) * (rows.dim() - 1) + (0, max(sizes) - len(rows))
    parts = _GatherEqual.apply(F.pad(rows, padding))
    return [part[:count] for part, count in zip(parts, sizes)]


def _all_gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    parts = [torch.empty_like(tensor) for _ in range(comm.get_world_size())]
    dist.all_gather(parts, tensor)
    return parts


class _GatherEqual(torch.autograd.Function):
    """all_gather of tensors of one shape; `torch.distributed.nn`'s is deprecated."""

    @staticmethod
    def forward(ctx, tensor):
        return tuple(_all_gather(tensor.contiguous()))

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        # Not a reduce-scatter, which gloo does not have everywhere.
        total = torch.stack(gradients)
        dist.all_reduce(total)
        return total[comm.get_rank()]
