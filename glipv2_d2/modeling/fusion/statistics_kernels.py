"""Each channel's mean and variance, as Triton kernels, and its mean in a map that is resized.

A mean after resizing is a weighted mean before: an input position counts with the sum of its shares
in all positions that are made of it.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

__all__ = ["PARTS", "ROWS", "channel_statistics", "constants", "line_scales", "rows_of"]

ROWS = 8  # positions that a program works on at once, all channels
PARTS = 64  # programs that sum one map of one image; their sums are added afterwards, in order


@triton.jit
def _share(line, scale, reach, inverse, out_size):
    """How much of the lines after resizing is made of input line `line`, summed."""
    first = tl.floor((line - 1) * inverse).to(tl.int32)
    total = tl.zeros(line.shape, tl.float32)
    for step in range(reach):
        at = first + step
        near = tl.maximum(1.0 - tl.abs(at * scale - line), 0.0)
        total += tl.where((at >= 0) & (at < out_size), near, 0.0)
    return total


@triton.jit
def _weight(at, width, resizing):
    """Of input positions in the mean after resizing to out_height x out_width."""
    out_height, out_width, down, right, down_reach, right_reach, up, left = resizing
    rows = _share((at // width).to(tl.float32), down, down_reach, up, out_height)
    columns = _share((at % width).to(tl.float32), right, right_reach, left, out_width)
    return rows * columns / (out_height * out_width)


_RESIZING = (
    "out_height", "out_width", "down", "right", "down_reach", "right_reach", "up", "left",
)  # fmt: skip


@triton.jit(do_not_specialize=("count", "width", "steps", *_RESIZING))
def _statistics_kernel(
    x, partial,
    count, width, steps, out_height, out_width, down, right, down_reach, right_reach, up, left,
    C: tl.constexpr, CHANNELS: tl.constexpr, RESIZED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    part, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    known = channel < C
    table = x + image * count * C + channel
    # All sums are relative to the first position: variances would lose digits against large means.
    start = tl.load(table, mask=known, other=0.0).to(tl.float32)
    first = tl.zeros((CHANNELS,), tl.float32)
    second = tl.zeros((CHANNELS,), tl.float32)
    resized = tl.zeros((CHANNELS,), tl.float32)
    resizing = out_height, out_width, down, right, down_reach, right_reach, up, left
    for step in range(steps):
        at = (part * steps + step) * ROWS + tl.arange(0, ROWS)
        mask = (at < count)[:, None] & known[None, :]
        value = tl.load(table[None, :] + (at * C)[:, None], mask=mask, other=0.0).to(tl.float32)
        value = tl.where(mask, value - start[None, :], 0.0)
        first += tl.sum(value, 0)
        second += tl.sum(value * value, 0)
        if RESIZED:
            resized += tl.sum(value * _weight(at, width, resizing)[:, None], 0)
    if not RESIZED:
        resized = first / count
    place = partial + (image * tl.num_programs(0) + part) * 3 * C + channel
    tl.store(place, first / count, mask=known)
    tl.store(place + C, second / count, mask=known)
    tl.store(place + 2 * C, resized, mask=known)


@triton.jit(do_not_specialize=("count", "width", *_RESIZING))
def _statistics_backward_kernel(
    x, mean, of_mean, of_variance, of_resized, grad,
    count, width, out_height, out_width, down, right, down_reach, right_reach, up, left,
    C: tl.constexpr, CHANNELS: tl.constexpr, RESIZED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    known = channel < C
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = (at < count)[:, None] & known[None, :]
    place = (image * count + at)[:, None] * C + channel[None, :]
    of_channel = image * C + channel
    center = tl.load(mean + of_channel, mask=known, other=0.0)[None, :]
    slope = tl.load(of_variance + of_channel, mask=known, other=0.0)[None, :] * 2
    constant = tl.load(of_mean + of_channel, mask=known, other=0.0)[None, :]
    resized = tl.load(of_resized + of_channel, mask=known, other=0.0)[None, :]
    value = (tl.load(x + place, mask=mask, other=0.0).to(tl.float32) - center) * slope + constant
    if RESIZED:
        resizing = out_height, out_width, down, right, down_reach, right_reach, up, left
        value = value / count + resized * _weight(at, width, resizing)[:, None]
    else:
        value = (value + resized) / count
    tl.store(grad + place, value.to(grad.dtype.element_ty), mask=mask)


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) as (B, h, w, C) in one piece, which maps of `deform_kernels` are already."""
    return x.permute(0, 2, 3, 1).contiguous()


def line_scales(size: Sequence[int], out: Sequence[int]) -> list[float]:
    """Input lines for each line after resizing, corners aligned."""
    return [(a - 1) / (b - 1) if b > 1 else 0.0 for a, b in zip(size, out)]


def _resizing(size: Sequence[int], out: Sequence[int]) -> tuple[float, ...]:
    """The arguments of `_weight`."""
    scales = line_scales(size, out)
    # An input line is part of those after resizing that lie less than a line away from it.
    reaches = [int(2 / scale) + 2 if scale else side for scale, side in zip(scales, out)]
    inverses = [1 / scale if scale else 0.0 for scale in scales]
    return *out, *scales, *reaches, *inverses


def constants(channels: int) -> dict[str, Any]:
    return {
        "C": channels, "CHANNELS": triton.next_power_of_2(channels), "ROWS": ROWS, "num_warps": 4,
    }  # fmt: skip


class _Statistics(torch.autograd.Function):
    """Of maps (B, h, w, C) -> mean, variance and mean after resizing, (maps, B, C) each."""

    @staticmethod
    def forward(ctx, sizes, *maps):
        images, _, _, channels = maps[0].shape
        partial = maps[0].new_empty(len(maps), images, PARTS, 3, channels, dtype=torch.float32)
        for x, size, of_map in zip(maps, sizes, partial):
            count = x.shape[1] * x.shape[2]
            _statistics_kernel[(PARTS, images)](
                x, of_map, count, x.shape[2], triton.cdiv(count, PARTS * ROWS),
                *_resizing(x.shape[1:3], size), RESIZED=x.shape[1:3] != size,
                **constants(channels),
            )  # fmt: skip
        start = torch.stack([x[:, 0, 0] for x in maps]).float()
        first, second, resized = partial.sum(2).unbind(2)
        mean = start + first
        ctx.save_for_backward(mean, *maps)
        ctx.sizes = sizes
        return mean, second - first * first, start + resized

    @staticmethod
    @once_differentiable
    def backward(ctx, of_mean, of_variance, of_resized):
        mean, *maps = ctx.saved_tensors
        grads = [torch.empty_like(x) for x in maps]
        of_maps = (t.contiguous() for t in (mean, of_mean, of_variance, of_resized))
        for x, size, grad, *of_map in zip(maps, ctx.sizes, grads, *of_maps):
            count = x.shape[1] * x.shape[2]
            _statistics_backward_kernel[(triton.cdiv(count, ROWS), len(x))](
                x, *of_map, grad, count, x.shape[2], *_resizing(x.shape[1:3], size),
                RESIZED=x.shape[1:3] != size, **constants(x.shape[3]),
            )  # fmt: skip
        return None, *grads


def channel_statistics(
    maps: Sequence[torch.Tensor], sizes: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each channel's mean and variance, and its mean in a map that is resized.

    Args:
        maps: K of (B, C, h, w). sizes: (height, width) that each is to have (bilinear, corners
            aligned); no smaller.

    Returns:
        Three times (K, B, C), float32. The variance is the biased one, over h x w.
    """
    return _Statistics.apply([torch.Size(size) for size in sizes], *(rows_of(x) for x in maps))
