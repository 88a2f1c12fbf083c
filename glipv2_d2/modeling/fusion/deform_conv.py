"""Modulated deformable 3x3 convolution (DCNv2) whose sampling grid can be shared between calls.

Two forms of the same sum. On CUDA torchvision's kernel. On CPU that kernel is single-threaded, so
there the bilinear samples are a weighted gather (`embedding_bag` over the 4 corners of each of the
9 taps) followed by one matrix product: several times faster forward and more backward, equal to
about 2e-6.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

__all__ = ["DeformConvNorm", "modulated_deform_conv2d"]

KERNEL = 3
TAPS = KERNEL * KERNEL
PADDING = 1


def _tap_positions(offset: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns (B, h*w, 9), in input pixels, at which the taps sample.

    `offset` (B, 18, h, w) holds (dy, dx) pairs per tap, taps in row-major order.
    """
    batch, _, height, width = offset.shape
    device = offset.device
    offset = offset.float().view(batch, TAPS, 2, height * width).permute(2, 0, 3, 1)
    tap = torch.arange(KERNEL, device=device) - PADDING
    tap_y, tap_x = tap.repeat_interleave(KERNEL), tap.repeat(KERNEL)
    row = torch.arange(height, device=device).repeat_interleave(width) * stride
    column = torch.arange(width, device=device).repeat(height) * stride
    return offset[0] + row[:, None] + tap_y, offset[1] + column[:, None] + tap_x


def _corners(position: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The two neighbours along one axis: indices and linear weights, each (..., 2).

    A neighbour outside the map has weight 0 (and a clamped index).
    """
    low = position.detach().floor()
    fraction = position - low
    index = torch.stack((low, low + 1), dim=-1)
    weight = torch.stack((1 - fraction, fraction), dim=-1)
    weight = weight * ((index >= 0) & (index <= size - 1))
    return index.clamp(0, size - 1).long(), weight


def _gather_deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
) -> torch.Tensor:
    batch, channels, in_h, in_w = x.shape
    out_h, out_w = offset.shape[-2:]
    rows, columns = _tap_positions(offset, stride)
    row_index, row_weight = _corners(rows, in_h)
    column_index, column_weight = _corners(columns, in_w)
    image = torch.arange(batch, device=x.device).view(batch, 1, 1, 1, 1) * (in_h * in_w)
    index = image + row_index[..., :, None] * in_w + column_index[..., None, :]
    mask = mask.float().flatten(2).transpose(1, 2)  # (B, h*w, 9)
    corner_weight = row_weight[..., :, None] * (column_weight * mask[..., None])[..., None, :]
    table = x.permute(0, 2, 3, 1).reshape(batch * in_h * in_w, channels).float()
    samples = F.embedding_bag(
        index.view(-1, 4), table, per_sample_weights=corner_weight.reshape(-1, 4), mode="sum"
    )
    kernel = weight.permute(0, 2, 3, 1).flatten(1)  # (out, 9 * C), taps first as in `samples`
    out = F.linear(samples.view(batch, out_h * out_w, TAPS * channels), kernel, bias)
    return out.transpose(1, 2).unflatten(2, (out_h, out_w))


def modulated_deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: int = 1,
) -> torch.Tensor:
    """3x3 modulated deformable convolution with padding 1.

    Args:
        x: (B, C, H, W). offset: (B, 18, h, w), (dy, dx) per tap in input pixels. mask: (B, 9, h,
            w).
        weight: (out, C, 3, 3). bias: (out,). h and w are what a 3x3 convolution of this stride
            yields.

    Returns:
        (B, out, h, w).
    """
    if x.is_cuda:
        # The kernel has no half-precision autocast rule of its own: all operands in float32.
        with torch.autocast("cuda", enabled=False):
            return deform_conv2d(
                x.float(),
                offset.float(),
                weight.float(),
                bias.float(),
                stride,
                PADDING,
                mask=mask.float(),
            )
    return _gather_deform_conv2d(x, offset, mask, weight, bias, stride)


class DeformConvNorm(nn.Module):
    """Modulated deformable 3x3 convolution, then GroupNorm."""

    def __init__(self, channels: int, stride: int = 1, groups: int = 16):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.GroupNorm(groups, channels)
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See `modulated_deform_conv2d`."""
        return self.norm(
            modulated_deform_conv2d(x, offset, mask, self.weight, self.bias, self.stride)
        )
