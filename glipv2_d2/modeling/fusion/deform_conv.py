"""Modulated deformable 3x3 convolution (DCNv2) whose sampling grid can be shared between calls.

Three forms of the same sum. On CUDA kernels of ours for the samples and one matrix product behind
them (`deform_kernels`). In exported graphs, and on CUDA without Triton, torchvision's operator.
That one is single-threaded on CPU, so there the bilinear samples are a weighted gather
(`embedding_bag` over the 4 corners of each of the 9 taps): several times faster forward and more
backward, equal to about 2e-6.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from ..blocks import block_rows, inference_dtype, runs_kernels
from ..precision import at_least_float32, convolution_dtype, without_autocast

__all__ = ["DeformConvNorm", "modulated_deform_conv2d", "taps_first"]

KERNEL = 3
TAPS = KERNEL * KERNEL
PADDING = 1

# PyTorch before 2.7 does not tell; docs/export.md asks for a newer one.
_is_exporting = getattr(torch.compiler, "is_exporting", bool)


def _origins(batch: int, size: Sequence[int], stride: int, device) -> torch.Tensor:
    """(B * h * w, 3): image, row and column, in input pixels, of every output position."""
    height, width = size
    image, row, column = torch.meshgrid(
        torch.arange(batch, device=device),
        torch.arange(height, device=device) * stride,
        torch.arange(width, device=device) * stride,
        indexing="ij",
    )
    return torch.stack((image, row, column), dim=-1).view(-1, 3)


def _neighbors(position: torch.Tensor, size: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The two grid lines around each coordinate: indices and linear weights of both.

    Args:
        position: (n, 2, taps), rows and columns. size: (2, 1), of the input.

    Returns:
        Indices below and above, weights below and above; a line outside the map has weight 0 and a
        clamped index.
    """
    low = position.detach().floor()
    high = low + 1
    fraction = position - low
    weight_low = (1 - fraction) * ((low >= 0) & (low < size))
    weight_high = fraction * ((high >= 0) & (high < size))
    zero = torch.zeros_like(size)
    indices = (torch.clamp(line, zero, size - 1).int() for line in (low, high))
    return *indices, weight_low, weight_high


def _samples(
    table: torch.Tensor,
    size: Sequence[int],
    origin: torch.Tensor,
    offset: torch.Tensor,
    modulation: torch.Tensor,
) -> torch.Tensor:
    """Modulated bilinear samples (n, 9 * C) of n output positions, taps first.

    Args:
        table: (B * H * W, C), the input. size: (H, W). origin: (n, 3), see `_origins`.
        offset: (n, 9, 2), (dy, dx) per tap. modulation: (n, 9).
    """
    height, width = size
    tap = torch.arange(KERNEL, device=table.device) - PADDING
    grid = torch.stack((tap.repeat_interleave(KERNEL), tap.repeat(KERNEL)))  # row-major
    position = offset.transpose(1, 2) + (origin[:, 1:, None] + grid)
    bounds = torch.tensor([[height], [width]], dtype=position.dtype, device=table.device)
    low, high, weight_low, weight_high = _neighbors(position, bounds)
    image = (origin[:, :1] * (height * width)).int()
    rows = [image + line[:, 0] * width for line in (low, high)]
    index = torch.stack([row + line[:, 1] for row in rows for line in (low, high)], dim=-1)
    row_weights = [weight[:, 0] * modulation for weight in (weight_low, weight_high)]
    weight = torch.stack(
        [row * column[:, 1] for row in row_weights for column in (weight_low, weight_high)], dim=-1
    )
    samples = F.embedding_bag(
        index.view(-1, 4), table, per_sample_weights=weight.view(-1, 4).to(table.dtype), mode="sum"
    )
    return samples.view(origin.shape[0], -1)


def _gather_deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    modulation: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
) -> torch.Tensor:
    batch, channels, *in_size = x.shape
    out_size = offset.shape[-2:]
    # In training in float32, because the slopes of the positions come out of it.
    dtype = inference_dtype(x, offset, modulation, weight, bias)
    table = x.permute(0, 2, 3, 1).reshape(-1, channels).to(dtype)
    per_position = (
        _origins(batch, out_size, stride, x.device),
        at_least_float32(offset).flatten(2).transpose(1, 2).reshape(-1, TAPS, 2),
        at_least_float32(modulation).flatten(2).transpose(1, 2).reshape(-1, TAPS),
    )
    kernel = taps_first(weight).to(dtype)
    block = block_rows(per_position[1][None], kernel.shape[1], x, modulation, weight, bias)
    out = [
        F.linear(_samples(table, in_size, *part), kernel, bias)
        for part in zip(*(t.split(block) for t in per_position))
    ]
    # permute, not transpose and unflatten: those leave a batch stride of its own for one image,
    # with which GroupNorm and the upsampling do not see that it is channels-last.
    return torch.cat(out).view(batch, *out_size, -1).permute(0, 3, 1, 2)


def taps_first(weight: torch.Tensor) -> torch.Tensor:
    """(out, C, 3, 3) -> (out, 9 * C), in the order of the samples."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _kernel_deform_conv2d(x, offset, modulation, kernel, bias, stride):
    """`kernel` and `bias` are of the precision of the products; positions are float32."""
    from .deform_kernels import deform_conv2d as convolve  # needs Triton

    with without_autocast(x.device.type):
        return convolve(
            x.to(kernel.dtype), offset.float(), modulation.float(), kernel, bias, stride
        )


def modulated_deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    modulation: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: int = 1,
) -> torch.Tensor:
    """3x3 modulated deformable convolution with padding 1.

    Args:
        x: (B, C, H, W).
        offset: (B, 18, h, w), (dy, dx) per tap in input pixels. modulation: (B, 9, h, w), per tap.
        weight: (out, C, 3, 3). bias: (out,). h and w are what a 3x3 convolution of this stride
            yields.

    Returns:
        (B, out, h, w).
    """
    if runs_kernels(x):
        dtype = convolution_dtype(weight)
        kernel = taps_first(weight).to(dtype)
        return _kernel_deform_conv2d(x, offset, modulation, kernel, bias.to(dtype), stride)
    if x.is_cuda or _is_exporting():
        # The kernel has no half-precision autocast rule of its own: all operands in float32.
        with without_autocast(x.device.type):
            out = deform_conv2d(
                at_least_float32(x),
                at_least_float32(offset),
                at_least_float32(weight),
                at_least_float32(bias),
                stride,
                PADDING,
                mask=at_least_float32(modulation),
            )
            return out.to(weight.dtype)  # of a model in half precision
    return _gather_deform_conv2d(x, offset, modulation, weight, bias, stride)


class DeformConvNorm(nn.Module):
    """Modulated deformable 3x3 convolution, then GroupNorm."""

    def __init__(self, channels: int, stride: int = 1, groups: int = 16):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, channels, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = nn.GroupNorm(groups, channels)
        nn.init.normal_(self.weight, std=0.01)

    def operands(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Kernel, taps first, and bias in the precision of the products: what `sample` takes."""
        dtype = convolution_dtype(self.weight)
        return taps_first(self.weight).to(dtype), self.bias.to(dtype)

    def sample(
        self,
        x: torch.Tensor,
        offset: torch.Tensor,
        modulation: torch.Tensor,
        operands: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """The convolution by our kernels, not normalized; levels can share the `operands`."""
        return _kernel_deform_conv2d(x, offset, modulation, *operands, self.stride)

    def forward(
        self, x: torch.Tensor, offset: torch.Tensor, modulation: torch.Tensor
    ) -> torch.Tensor:
        """See `modulated_deform_conv2d`."""
        return self.norm(
            modulated_deform_conv2d(x, offset, modulation, self.weight, self.bias, self.stride)
        )
