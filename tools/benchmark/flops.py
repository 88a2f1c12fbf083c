"""Floating point operations of a call: torch's counter, and what it does not know, by hand.

2 per multiply-add. Counted: matrix products, convolutions, CUDA's attention kernels; by hand:
deformable convolution (its matrix product and its bilinear samples), embedding_bag (a multiply-add
per value that is gathered) and the CPU's attention kernel. Not counted, as usual: norms,
activations, softmax and other element-wise work.
"""

import math

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch.utils.flop_counter import FlopCounterMode

CORNERS = 4  # of a bilinear sample


def _deform_conv2d(x, weight, offset, mask, bias, *_, out_shape=None, **__) -> int:
    batch, out_channels, height, width = out_shape
    samples = batch * height * width * math.prod(weight[1:])
    return 2 * samples * (out_channels + CORNERS)


def _embedding_bag(table, indices, *_, out_shape=None, **__) -> int:
    return 2 * math.prod(indices) * table[1]


def _cpu_attention(query, key, value, *_, out_shape=None, **__) -> int:
    """The scores and the weighted sum of (B, heads, T, L): torch's counter knows CUDA's kernels."""
    scores = math.prod(query[:-1]) * key[-2]
    return 2 * scores * (query[-1] + value[-1])


def _mapping() -> dict:
    mapping = {
        torch.ops.torchvision.deform_conv2d: _deform_conv2d,
        torch.ops.aten._embedding_bag: _embedding_bag,
        torch.ops.aten._embedding_bag_forward_only: _embedding_bag,
    }
    # Which of PyTorch's private kernels runs depends on its version.
    kernels = {
        "_scaled_dot_product_flash_attention_for_cpu": _cpu_attention,
    }
    for name, formula in kernels.items():
        if hasattr(torch.ops.aten, name):
            mapping[getattr(torch.ops.aten, name)] = formula
    return mapping


def count_flops(call) -> dict[str, float]:
    """GFLOP of one `call` by operator, and their "total"."""
    with FlopCounterMode(display=False, custom_mapping=_mapping()) as counter:
        call()
    counts = counter.get_flop_counts().get("Global", {})
    by_operator = {str(operator): count / 1e9 for operator, count in counts.items()}
    return {**by_operator, "total": counter.get_total_flops() / 1e9}
