"""Numbers and rows that all processes of a training share."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from detectron2.utils import comm
from torch.autograd.function import once_differentiable

__all__ = ["gather_rows", "mean_over_processes"]


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Average of a scalar over the processes, so that N equal one with N times the batch."""
    world = comm.get_world_size()
    if world == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / world


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
