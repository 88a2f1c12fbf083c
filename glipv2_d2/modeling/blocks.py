"""The leaner forms that layers take: where no gradient is recorded, and on a GPU."""

from importlib.util import find_spec

import torch
from torch import nn

__all__ = ["block_rows", "inference_dtype", "is_watched", "records_gradients", "runs_kernels"]

HAS_TRITON = find_spec("triton") is not None  # PyTorch for CUDA on Windows comes without

# Values in the largest intermediate of a block: 12 MB of float32, which a last-level cache holds
# and with which matrix products still run at full speed. Measured in docs/benchmarks.md.
CPU_BLOCK_VALUES = 3_000_000


def records_gradients(*operands: torch.Tensor) -> bool:
    """Whether autograd records what is done with these tensors: not in inference, nor in training
    where the parameters and all that comes before them are frozen."""
    return torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)


def runs_kernels(x: torch.Tensor) -> bool:
    """Whether what is done with `x` may be a Triton kernel of ours: on a GPU, in float32 or less,
    and not in a traced graph, which is to run where there is no Triton."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.is_cuda and HAS_TRITON and not traced and x.dtype != torch.float64


def is_watched(module: nn.Module) -> bool:
    """Whether somebody wants to hear of each call of a part: by a hook, or in place of its
    `forward`."""
    for part in module.modules():
        hooks = *part._forward_hooks.values(), *part._forward_pre_hooks.values()
        if "forward" in vars(part) or any(not hasattr(h, "part_of_model") for h in hooks):
            return True
    return False


def block_rows(x: torch.Tensor, width: int, *parameters: torch.Tensor) -> int:
    """How many of the rows of `x` (B, rows, ...) are worked on at once.

    On CPU, without gradients, blocks: the intermediates of 20,000 positions would go through main
    memory several times, into fresh pages each time. Everything at once on a GPU; in training,
    where the intermediates are kept anyway; and in traced graphs, where a loop would fix the size.

    Args:
        width: values per row in the largest intermediate.
        parameters: all else that takes part.
    """
    rows = x.shape[1]
    if x.device.type != "cpu" or torch.compiler.is_compiling() or records_gradients(x, *parameters):
        return rows
    return min(rows, max(1, CPU_BLOCK_VALUES // (x.shape[0] * width)))


def inference_dtype(*operands: torch.Tensor) -> torch.dtype:
    """The precision of an operation that trains in float32 although autocast is on.

    Softmax and sampling positions do; inference can afford to round them: autocast's precision
    where no gradient is recorded. Without autocast that of the first of the operands, at least
    float32 where gradients are recorded.
    """
    x = operands[0]
    if torch.is_autocast_enabled(x.device.type):
        if records_gradients(*operands):
            return torch.float32
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype
