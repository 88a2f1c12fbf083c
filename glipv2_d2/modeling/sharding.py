"""FSDP2: weights, gradients, optimizer state and average cut over the processes (`train.fsdp`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm
from timm.models.vision_transformer import Block
from torch import nn

from .backbone.swin import SwinBlock
from .processes import share_buffers

__all__ = [
    "gathered",
    "is_sharded",
    "local_part",
    "shard",
    "sharded_like",
    "whole",
    "whole_tensor",
]

# Of the image encoders, whose forward passes call them whole.
_BLOCKS = (SwinBlock, Block)


def shard(model: nn.Module) -> None:
    """Cut a model over the processes, in place, by PyTorch's `fully_shard`.

    Each process keeps its part of every parameter, of its gradient and of what an optimizer and an
    average are built of afterwards. The blocks of a Swin or a ViT, most of a large model, are
    gathered one at a time and only while they compute; what remains is gathered for the whole of a
    step. It is for a reason: a caption is read by parts of the tower's and the text's layers
    (`VLTower.read_images`), which only a whole forward pass of a layer would gather.

    The bound of a contrast's temperature holds in each forward pass, while the parameter itself may
    lie below it.

    Args:
        model: on its device; the weights are those of the first process, as with DDP.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Named: a machine with GPUs would be given one of them for a training on its CPU.
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for parameter in model.parameters():
        dist.broadcast(parameter.detach(), 0)
    share_buffers(model)
    for module in model.modules():
        if isinstance(module, _BLOCKS):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    root: Any = fully_shard(model, mesh=mesh, reshard_after_forward=False)
    # Else the first module that runs takes itself for the root. In an evaluation that a resumed run
    # begins with, that is a block, where `inference` is called in place of the model.
    root._get_fsdp_state()._lazy_init()


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has cut it, all of it then."""
    return _is_cut(next(model.parameters(), None))


def _is_cut(value: Any) -> bool:
    return hasattr(value, "placements")  # PyTorch 2.4 has no public name of the DTensor


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within this context every process has all of the model's weights, as an evaluation needs it:
    each has other images, and nobody waits for the others in a forward pass.

    All processes enter it together. A model that is not cut is left as it is.
    """
    if not is_sharded(model):
        yield
        return
    parts: list[Any] = [m for m in model.modules() if hasattr(m, "reshard")]
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def whole(state: Any) -> Any:
    """A state with its tensors whole: in the main process on the CPU, in the others emptied.

    All processes call it together, with mappings and lists of the same order.
    """
    if _is_cut(state):
        value = whole_tensor(state)
        return value.cpu() if comm.is_main_process() else None
    if isinstance(state, Mapping):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(whole, state))
    return state


def sharded_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's part of a whole tensor, cut as another one is; itself if that one is not."""
    of_cut: Any = like
    if not _is_cut(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    value = value.to(like.device)
    # All processes have read the same file: nothing is sent.
    return distribute_tensor(value, of_cut.device_mesh, of_cut.placements, src_data_rank=None)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, sharing its memory; the tensor itself if it is whole."""
    part: Any = tensor
    return part.to_local() if _is_cut(tensor) else tensor


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor whole in every process; all of them call it together if it is cut."""
    part: Any = tensor
    return part.full_tensor() if _is_cut(tensor) else tensor
