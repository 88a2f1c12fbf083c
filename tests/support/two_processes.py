"""A model with Detectron2's training interface, and a step of it over two processes."""

import json

import torch
from detectron2.utils import comm
from torch import nn

from glipv2_d2 import compat


class TwoLosses(nn.Module):
    """List of dicts in, dict of losses out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)
        self.seen_dtype = None

    def forward(self, inputs):
        hidden = self.linear(torch.stack([item["x"] for item in inputs]))
        self.seen_dtype = hidden.dtype
        return {"loss_a": hidden.float().pow(2).mean(), "loss_b": hidden.float().abs().mean()}


def batch(seed, size):
    generator = torch.Generator().manual_seed(seed)
    return [{"x": torch.randn(4, generator=generator)} for _ in range(size)]


def two_process_main(folder):
    """One DDP step over two processes; each sees its half of a batch of four."""
    model = compat.create_ddp_model(TwoLosses())
    assert isinstance(model, nn.parallel.DistributedDataParallel)
    rank = comm.get_rank()
    losses = model(batch(0, 4)[rank * 2 : rank * 2 + 2])
    sum(losses.values()).backward()
    report = {
        "ranks": comm.gather((rank, comm.get_local_rank(), comm.get_world_size())),
        "everyone": comm.all_gather(rank),
        "gradient": model.module.linear.weight.grad.tolist(),
        "loss": comm.reduce_dict({"loss": sum(losses.values()).detach()})["loss"].item(),
        "threads": torch.get_num_threads(),
    }
    if comm.is_main_process():
        (folder / "report.json").write_text(json.dumps(report))
