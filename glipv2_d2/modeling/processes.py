"""Numbers that all processes of a training share."""

import torch
from detectron2.utils import comm

__all__ = ["mean_over_processes"]


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Average of a scalar over the processes, so that N equal one with N times the batch."""
    world = comm.get_world_size()
    if world == 1:
        return value
    value = value.detach().clone()
    torch.distributed.all_reduce(value)
    return value / world
