"""Work in blocks that stay in the processor's cache."""

import torch

__all__ = ["block_rows", "inference_dtype"]

# Values in the largest intermediate of a block: 12 MB of float32, which a last-level cache holds
# and with which matrix products still run at full speed. Measured in docs/benchmarks.md.
CPU_BLOCK_VALUES = 3_000_000


def block_rows(x: torch.Tensor, width: int) -> int:
    """How many of the rows of `x` (B, rows, ...) are worked on at once.

    On CPU, without gradients, blocks: the intermediates of 20,000 positions would go through main
    memory several times, into fresh pages each time. Everything at once on a GPU; in training,
    where the intermediates are kept anyway; and in traced graphs, where a loop would fix the size.

    Args:
        width: values per row in the largest intermediate.
    """
    rows = x.shape[1]
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return rows
    return min(rows, max(1, CPU_BLOCK_VALUES // (x.shape[0] * width)))


def inference_dtype(device: torch.device) -> torch.dtype:
    """Autocast's precision in inference; float32 in training and without autocast.

    For the parts that train in float32 although autocast is on (softmax, sampling positions), and
    that inference can afford to round.
    """
    if torch.is_grad_enabled() or not torch.is_autocast_enabled(device.type):
        return torch.float32
    return torch.get_autocast_dtype(device.type)
