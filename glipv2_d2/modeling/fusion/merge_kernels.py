"""The merging of a level by a dynamic convolution, as Triton kernels that read each map twice.

GroupNorm, the scale attention and the mean over the branches are, for one image, a factor and a
shift for each channel; resizing commutes with both. So what `DynamicConv` computes of the maps x_k
of a level's branches is

    y   = sum_k a_k * resized(x_k) + b        a_k, b: for each image and channel
    out = max(p1 * y + q1, p2 * y + q2)       DyReLU

and a, b, p and q follow from each channel's mean and variance, and from its mean after resizing,
which is a weighted mean before. This is exact algebra: one pass over the maps for these statistics,
arithmetic on (images, channels), one pass that writes the level. PyTorch's own operators took a
third of the tower's time on an H100, most of it in channels-first copies.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from .statistics_kernels import PARTS, ROWS, constants, line_scales, rows_of

__all__ = ["merge_level"]


@triton.jit
def _resized(x, image, row, column, height, width, down, right, channel, mask, C: tl.constexpr):
    """Bilinear values, corners aligned, of a map (B, height, width, C) at rows of a larger one."""
    y, z = row * down, column * right
    top, left = y.to(tl.int32), z.to(tl.int32)
    dy, dx = (y - top)[:, None], (z - left)[:, None]
    below = tl.minimum(top + 1, height - 1)
    beside = tl.minimum(left + 1, width - 1)
    table = x + image * height * width * C + channel[None, :]
    v00 = tl.load(table + ((top * width + left) * C)[:, None], mask=mask, other=0.0)
    v01 = tl.load(table + ((top * width + beside) * C)[:, None], mask=mask, other=0.0)
    v10 = tl.load(table + ((below * width + left) * C)[:, None], mask=mask, other=0.0)
    v11 = tl.load(table + ((below * width + beside) * C)[:, None], mask=mask, other=0.0)
    above = (1 - dx) * v00.to(tl.float32) + dx * v01.to(tl.float32)
    under = (1 - dx) * v10.to(tl.float32) + dx * v11.to(tl.float32)
    return (1 - dy) * above + dy * under


@triton.jit
def _of_channel(table, image, channel, known, C: tl.constexpr):
    return tl.load(table + image * C + channel, mask=known, other=0.0)[None, :]


@triton.jit
def _store(place, step, known, a, b, c, d, e, f, g):
    tl.store(place, a, mask=known)
    tl.store(place + step, b, mask=known)
    tl.store(place + 2 * step, c, mask=known)
    tl.store(place + 3 * step, d, mask=known)
    tl.store(place + 4 * step, e, mask=known)
    tl.store(place + 5 * step, f, mask=known)
    tl.store(place + 6 * step, g, mask=known)


_SIZES = "count", "width", "high_height", "high_width", "down", "right"


@triton.jit(do_not_specialize=_SIZES)
def _merge_kernel(
    mid, low, high, scales, shift, lines, out, count, width, high_height, high_width, down, right,
    C: tl.constexpr, CHANNELS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    image, images = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    channel = tl.arange(0, CHANNELS)
    known = channel < C
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = (at < count)[:, None] & known[None, :]
    place = (image * count + at)[:, None] * C + channel[None, :]
    x = tl.load(mid + place, mask=mask, other=0.0).to(tl.float32)
    y = _of_channel(shift, image, channel, known, C)
    y += _of_channel(scales, image, channel, known, C) * x
    if LOW:
        x = tl.load(low + place, mask=mask, other=0.0).to(tl.float32)
        y += _of_channel(scales, images + image, channel, known, C) * x
    if HIGH:
        x = _resized(
            high, image, at // width, at % width, high_height, high_width, down, right,
            channel, mask, C,
        )  # fmt: skip
        y += _of_channel(scales, (1 + LOW) * images + image, channel, known, C) * x
    one = _of_channel(lines, image, channel, known, C) * y
    one += _of_channel(lines, images + image, channel, known, C)
    other = _of_channel(lines, 2 * images + image, channel, known, C) * y
    other += _of_channel(lines, 3 * images + image, channel, known, C)
    tl.store(out + place, tl.maximum(one, other), mask=mask)


@triton.jit(do_not_specialize=(*_SIZES, "steps"))
def _merge_backward_kernel(
    mid, low, high, scales, shift, lines, grad, grad_mid, grad_low, grad_high, partial,
    count, width, steps, high_height, high_width, down, right,
    C: tl.constexpr, CHANNELS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    part, image, images = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.num_programs(1)
    channel = tl.arange(0, CHANNELS)
    known = channel < C
    b = _of_channel(shift, image, channel, known, C)
    a_mid = _of_channel(scales, image, channel, known, C)
    a_low = _of_channel(scales, LOW * images + image, channel, known, C)
    a_high = _of_channel(scales, (LOW + HIGH) * images + image, channel, known, C)
    p1 = _of_channel(lines, image, channel, known, C)
    q1 = _of_channel(lines, images + image, channel, known, C)
    p2 = _of_channel(lines, 2 * images + image, channel, known, C)
    q2 = _of_channel(lines, 3 * images + image, channel, known, C)
    of_p1 = tl.zeros((CHANNELS,), tl.float32)
    of_q1 = tl.zeros((CHANNELS,), tl.float32)
    of_p2 = tl.zeros((CHANNELS,), tl.float32)
    of_q2 = tl.zeros((CHANNELS,), tl.float32)
    of_mid = tl.zeros((CHANNELS,), tl.float32)
    of_low = tl.zeros((CHANNELS,), tl.float32)
    of_high = tl.zeros((CHANNELS,), tl.float32)
    for step in range(steps):
        at = (part * steps + step) * ROWS + tl.arange(0, ROWS)
        mask = (at < count)[:, None] & known[None, :]
        place = (image * count + at)[:, None] * C + channel[None, :]
        x_mid = tl.load(mid + place, mask=mask, other=0.0).to(tl.float32)
        y = b + a_mid * x_mid
        if LOW:
            x_low = tl.load(low + place, mask=mask, other=0.0).to(tl.float32)
            y += a_low * x_low
        if HIGH:
            x_high = _resized(
                high, image, at // width, at % width, high_height, high_width, down, right,
                channel, mask, C,
            )  # fmt: skip
            y += a_high * x_high
        g = tl.load(grad + place, mask=mask, other=0.0).to(tl.float32)
        first = p1 * y + q1 >= p2 * y + q2
        g1 = tl.where(first, g, 0.0)
        g2 = g - g1
        of_p1 += tl.sum(g1 * y, 0)
        of_q1 += tl.sum(g1, 0)
        of_p2 += tl.sum(g2 * y, 0)
        of_q2 += tl.sum(g2, 0)
        of_y = p1 * g1 + p2 * g2
        of_mid += tl.sum(of_y * x_mid, 0)
        tl.store(grad_mid + place, (a_mid * of_y).to(grad_mid.dtype.element_ty), mask=mask)
        if LOW:
            of_low += tl.sum(of_y * x_low, 0)
            tl.store(grad_low + place, (a_low * of_y).to(grad_low.dtype.element_ty), mask=mask)
        if HIGH:
            of_high += tl.sum(of_y * x_high, 0)
            tl.store(grad_high + place, (a_high * of_y).to(grad_high.dtype.element_ty), mask=mask)
    # (7, images, C) for each part
    place = partial + (part * 7 * images + image) * C + channel
    _store(place, images * C, known, of_p1, of_q1, of_p2, of_q2, of_mid, of_low, of_high)


class _Merge(torch.autograd.Function):
    """The maps are (B, h, w, C), the branches that are not there None."""

    @staticmethod
    def forward(ctx, mid, low, high, scales, shift, lines):
        scales, shift, lines = (t.contiguous() for t in (scales, shift, lines))
        ctx.save_for_backward(mid, low, high, scales, shift, lines)
        images, height, width, channels = mid.shape
        out = torch.empty(mid.shape, dtype=torch.float32, device=mid.device)
        count = height * width
        _merge_kernel[(triton.cdiv(count, ROWS), images)](
            mid, _or(low, mid), _or(high, mid), scales, shift, lines, out,
            count, width, *_high(high, mid), LOW=int(low is not None), HIGH=int(high is not None),
            **constants(channels),
        )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        mid, low, high, scales, shift, lines = ctx.saved_tensors
        images, height, width, channels = mid.shape
        count = height * width
        of_mid = torch.empty_like(mid)
        of_low, of_high = (None if x is None else torch.empty_like(mid) for x in (low, high))
        partial = scales.new_empty(PARTS, 7, images, channels)
        _merge_backward_kernel[(PARTS, images)](
            mid, _or(low, mid), _or(high, mid), scales, shift, lines, grad.contiguous(),
            of_mid, _or(of_low, of_mid), _or(of_high, of_mid), partial,
            count, width, triton.cdiv(count, PARTS * ROWS), *_high(high, mid),
            LOW=int(low is not None), HIGH=int(high is not None), **constants(channels),
        )  # fmt: skip
        sums = partial.sum(0)
        there = [k for k, x in zip((4, 5, 6), (mid, low, high)) if x is not None]
        of_shift = lines[0] * sums[1] + lines[2] * sums[3]
        if of_high is not None:
            of_high = torch.ops.aten.upsample_bilinear2d_backward(
                of_high.permute(0, 3, 1, 2), (height, width),
                (images, channels, *high.shape[1:3]), True,
            ).permute(0, 2, 3, 1)  # fmt: skip
        return of_mid, of_low, of_high, torch.stack([sums[k] for k in there]), of_shift, sums[:4]


def _or(x: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    """An argument for a kernel that does not read it."""
    return other if x is None else x


def _high(high: torch.Tensor | None, mid: torch.Tensor) -> tuple[float, ...]:
    size = _or(high, mid).shape[1:3]
    return *size, *line_scales(size, mid.shape[1:3])


def merge_level(
    mid: torch.Tensor,
    low: torch.Tensor | None,
    high: torch.Tensor | None,
    scales: torch.Tensor,
    shift: torch.Tensor,
    lines: torch.Tensor,
) -> torch.Tensor:
    """A level of its branches, see the equations above.

    Args:
        mid: (B, C, h, w). low: of its shape. high: (B, C, h', w'), resized to h x w.
        scales: (branches, B, C), of those that are there. shift: (B, C).
        lines: (4, B, C): p1, q1, p2, q2. All three in float32.

    Returns:
        (B, C, h, w), channels-last, float32.
    """
    maps = (None if x is None else rows_of(x) for x in (mid, low, high))
    return _Merge.apply(*maps, scales, shift, lines).permute(0, 3, 1, 2)
