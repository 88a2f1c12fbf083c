"""The samples of a modulated deformable 3x3 convolution, forward and backward, as Triton kernels.

torchvision's kernel samples in float32 and channels-first, so that the product behind it is a
float32 one: on an H200 it took half of the tower's time in bf16. Here a row of the samples is one
contiguous piece of a channels-last map per corner, in the precision of that map; positions, slopes
and sums are float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

__all__ = ["deform_conv2d"]

TAPS = 9
POSITIONS = 16  # of one program, all channels of one tap


@triton.jit
def _tap(
    offset,
    modulation,
    at,
    height,
    width,
    in_height,
    in_width,
    inside,
    strides,
    STRIDE: tl.constexpr,
):
    """Of output positions `at` and one tap: image, grid point above and left, fractions beyond it,
    modulation."""
    tap = tl.program_id(1)
    o_image, o_kind, o_row, o_column, m_image, m_kind, m_row, m_column = strides
    image = at // (height * width)
    row = at // width % height
    column = at % width
    place = offset + image * o_image + 2 * tap * o_kind + row * o_row + column * o_column
    down = tl.load(place, mask=inside, other=0.0)
    right = tl.load(place + o_kind, mask=inside, other=0.0)
    place = modulation + image * m_image + tap * m_kind + row * m_row + column * m_column
    scale = tl.load(place, mask=inside, other=0.0)
    # Whatever lies outside by more than a pixel is 0; far values would not fit an integer.
    y = tl.minimum(tl.maximum(row * STRIDE + tap // 3 - 1 + down, -2.0), in_height + 1.0)
    x = tl.minimum(tl.maximum(column * STRIDE + tap % 3 - 1 + right, -2.0), in_width + 1.0)
    top = tl.floor(y)
    left = tl.floor(x)
    return (
        image,
        top.to(tl.int32),
        left.to(tl.int32),
        (y - top)[:, None],
        (x - left)[:, None],
        scale,
    )


@triton.jit
def _corner(table, image, row, column, height, width, strides, channel, known):
    """(positions, channels), the map's values at grid points; 0 outside."""
    s_image, s_row, s_column = strides
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    start = image * s_image + row * s_row + column * s_column
    values = tl.load(
        table + start[:, None] + channel[None, :], mask=known & inside[:, None], other=0.0
    )
    return values.to(tl.float32)


@triton.jit
def _corners(table, image, row, column, height, width, strides, channel, known):
    return (
        _corner(table, image, row, column, height, width, strides, channel, known),
        _corner(table, image, row, column + 1, height, width, strides, channel, known),
        _corner(table, image, row + 1, column, height, width, strides, channel, known),
        _corner(table, image, row + 1, column + 1, height, width, strides, channel, known),
    )


# Sizes and strides are not specialized: each map would have kernels of its own.
_SIZES = "count", "in_height", "in_width", "height", "width"
_STRIDES = tuple(f"{t}_{s}" for t in "om" for s in ("image", "kind", "row", "column"))


@triton.jit(do_not_specialize=(*_SIZES, *_STRIDES))
def _sample_kernel(
    table, offset, modulation, out, count, in_height, in_width, height, width,
    t_image, t_row, t_column, o_image, o_kind, o_row, o_column, m_image, m_kind, m_row, m_column,
    C: tl.constexpr, CHANNELS: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    inside = at < count
    known = inside[:, None] & (channel < C)[None, :]
    strides = o_image, o_kind, o_row, o_column, m_image, m_kind, m_row, m_column
    image, i, j, dy, dx, scale = _tap(
        offset, modulation, at, height, width, in_height, in_width, inside, strides, STRIDE
    )
    steps = t_image, t_row, t_column
    v00, v01, v10, v11 = _corners(table, image, i, j, in_height, in_width, steps, channel, known)
    value = (1 - dy) * ((1 - dx) * v00 + dx * v01) + dy * ((1 - dx) * v10 + dx * v11)
    place = out + ((at * 9 + tl.program_id(1)) * C)[:, None] + channel[None, :]
    tl.store(place, (value * scale[:, None]).to(out.dtype.element_ty), mask=known)


@triton.jit
def _add_corner(grad, image, row, column, height, width, channel, known, value, C: tl.constexpr):
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    start = ((image * height + row) * width + column) * C
    place = grad + start[:, None] + channel[None, :]
    tl.atomic_add(place, value, mask=known & inside[:, None], sem="relaxed")


@triton.jit(do_not_specialize=(*_SIZES, *_STRIDES))
def _backward_kernel(
    table, offset, modulation, grad_out, grad_table, grad_offset, grad_modulation,
    count, in_height, in_width, height, width,
    t_image, t_row, t_column, o_image, o_kind, o_row, o_column, m_image, m_kind, m_row, m_column,
    C: tl.constexpr, CHANNELS: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    inside = at < count
    known = inside[:, None] & (channel < C)[None, :]
    strides = o_image, o_kind, o_row, o_column, m_image, m_kind, m_row, m_column
    image, i, j, dy, dx, scale = _tap(
        offset, modulation, at, height, width, in_height, in_width, inside, strides, STRIDE
    )
    steps = t_image, t_row, t_column
    v00, v01, v10, v11 = _corners(table, image, i, j, in_height, in_width, steps, channel, known)
    of_tap = at * 9 + tl.program_id(1)
    place = grad_out + (of_tap * C)[:, None] + channel[None, :]
    grad = tl.load(place, mask=known, other=0.0).to(tl.float32)
    value = (1 - dy) * ((1 - dx) * v00 + dx * v01) + dy * ((1 - dx) * v10 + dx * v11)
    slope_y = (1 - dx) * (v10 - v00) + dx * (v11 - v01)
    slope_x = (1 - dy) * (v01 - v00) + dy * (v11 - v10)
    tl.store(grad_modulation + of_tap, tl.sum(grad * value, 1), mask=inside)
    tl.store(grad_offset + 2 * of_tap, tl.sum(grad * slope_y, 1) * scale, mask=inside)
    tl.store(grad_offset + 2 * of_tap + 1, tl.sum(grad * slope_x, 1) * scale, mask=inside)
    above = grad * scale[:, None] * (1 - dy)
    below = grad * scale[:, None] * dy
    h, w = in_height, in_width
    _add_corner(grad_table, image, i, j, h, w, channel, known, above * (1 - dx), C)
    _add_corner(grad_table, image, i, j + 1, h, w, channel, known, above * dx, C)
    _add_corner(grad_table, image, i + 1, j, h, w, channel, known, below * (1 - dx), C)
    _add_corner(grad_table, image, i + 1, j + 1, h, w, channel, known, below * dx, C)


def _launch(kernel: Any, table, offset, modulation, *more, stride: int) -> None:
    images, in_height, in_width, channels = table.shape
    height, width = offset.shape[2:]
    count = images * height * width
    kernel[(triton.cdiv(count, POSITIONS), TAPS)](
        table, offset, modulation, *more, count, in_height, in_width, height, width,
        *table.stride()[:3], *offset.stride(), *modulation.stride(),
        C=channels, CHANNELS=triton.next_power_of_2(channels), STRIDE=stride, BLOCK=POSITIONS,
        num_warps=4,
    )  # fmt: skip


def _samples(table, offset, modulation, stride: int) -> torch.Tensor:
    """(B * h * w, 9 * C) of a map (B, H, W, C), taps first, in its precision."""
    images, _, _, channels = table.shape
    rows = images * offset.shape[2] * offset.shape[3]
    out = table.new_empty(rows, TAPS * channels)
    _launch(_sample_kernel, table, offset, modulation, out, stride=stride)
    return out


class _DeformConv(torch.autograd.Function):
    """The samples are made anew in the backward pass: nine maps are more than is worth keeping."""

    @staticmethod
    def forward(ctx, table, offset, modulation, kernel, bias, stride):
        ctx.save_for_backward(table, offset, modulation, kernel)
        ctx.stride = stride
        return torch.addmm(bias, _samples(table, offset, modulation, stride), kernel.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        table, offset, modulation, kernel = ctx.saved_tensors
        images, _, height, width = offset.shape
        grad_samples = grad @ kernel
        grad_table = torch.zeros(table.shape, dtype=torch.float32, device=table.device)
        rows = len(grad_samples)
        grad_offset = offset.new_empty(rows, 2 * TAPS)
        grad_modulation = modulation.new_empty(rows, TAPS)
        grads = grad_table, grad_offset, grad_modulation
        _launch(
            _backward_kernel, table, offset, modulation, grad_samples, *grads, stride=ctx.stride
        )
        del grad_samples
        grad_kernel = grad.t() @ _samples(table, offset, modulation, ctx.stride)
        offsets, modulations = (
            g.view(images, height, width, -1).permute(0, 3, 1, 2) for g in grads[1:]
        )
        of_bias = grad.sum(0, dtype=torch.float32).to(grad.dtype)
        return grad_table.to(table.dtype), offsets, modulations, grad_kernel, of_bias, None


def deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    modulation: torch.Tensor,
    kernel: torch.Tensor,
    bias: torch.Tensor,
    stride: int,
) -> torch.Tensor:
    """See `modulated_deform_conv2d`.

    Args:
        kernel: (out, 9 * C), the weight with its taps first.
        x, kernel, bias: of one precision, in which the products are computed.
        offset, modulation: float32.
    """
    table = x.permute(0, 2, 3, 1)
    if table.stride(3) != 1:
        table = table.contiguous()
    out = _DeformConv.apply(table, offset, modulation, kernel, bias, stride)
    return out.view(x.shape[0], *offset.shape[2:], -1).permute(0, 3, 1, 2)
