"""Dynamic head block (Dai et al. 2021): scale, spatial and task attention over the pyramid."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..blocks import inference_dtype, is_watched, runs_kernels
from ..precision import at_least_float32, convolution_dtype
from ..text.features import TextFeatures
from .deform_conv import TAPS, DeformConvNorm

__all__ = ["DyHead", "DynamicConv", "DynamicReLU"]

OFFSET_RULES = ("resized", "raw_memory")


class DynamicReLU(nn.Module):
    """DyReLU-B (Chen et al. 2020): max of two lines whose coefficients depend on the whole map."""

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, 4 * channels)

    def lines(self, mean: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The map's mean (..., C) -> slope and height of the one line, and of the other."""
        coefficients = F.hardsigmoid(self.fc2(F.relu(self.fc1(mean))))
        a1, b1, a2, b2 = (coefficients - 0.5).to(mean.dtype).chunk(4, dim=-1)
        return 2 * a1 + 1, b1, 2 * a2, b2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        p1, q1, p2, q2 = (line[:, :, None, None] for line in self.lines(x.mean(dim=(2, 3))))
        return torch.maximum(x * p1 + q1, x * p2 + q2)


def offsets_for_coarser(fine: torch.Tensor, size: Sequence[int], rule: str) -> torch.Tensor:
    """The offsets (or the modulation) of a level, (B, K, H, W), for an output of a smaller `size`.

    Args:
        rule: "resized" interpolates them. "raw_memory" is what the official CUDA operator does, and
            what its released weights were trained with: it never checks the size and reads the
            first K*h*w values of each sample's memory as if they had the output's shape.
    """
    if rule == "resized":
        return F.interpolate(fine, size=size, mode="bilinear", align_corners=False)
    kinds, (height, width) = fine.shape[1], size
    return fine.flatten(1)[:, : kinds * height * width].unflatten(1, (kinds, height, width))


class _Branch(NamedTuple):
    """A convolution with the map, the offsets and the modulation that it is called with."""

    conv: DeformConvNorm
    x: torch.Tensor
    offset: torch.Tensor
    modulation: torch.Tensor


def _normalization(
    norms: Sequence[nn.GroupNorm], mean: torch.Tensor, variance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """GroupNorm of K maps as a factor and a shift for each channel.

    Args:
        mean, variance: (K, B, C), of each channel.
    """
    groups = norms[0].num_groups
    weight, bias = (
        torch.stack([getattr(norm, name) for norm in norms])[:, None] for name in ("weight", "bias")
    )
    means = mean.unflatten(-1, (groups, -1))
    center = means.mean(-1, keepdim=True)
    spread = variance.unflatten(-1, (groups, -1)) + (means - center).square()
    rate = (spread.mean(-1, keepdim=True) + norms[0].eps).rsqrt()
    factor = rate * weight.unflatten(-1, (groups, -1))
    return factor.flatten(-2), bias - (factor * center).flatten(-2)


class DynamicConv(nn.Module):
    """One block of the dynamic head.

    Each level merges itself, the finer level (stride 2) and the coarser one (upsampled), all
    sampled by deformable convolutions that share the level's offsets, weighted by a scale
    attention; then DyReLU.

    Args:
        channels: C.
        offset_rule: how a level's offsets serve the coarser, smaller map; see
            `offsets_for_coarser`.
        norm_groups: of the GroupNorm after each convolution.
    """

    def __init__(self, channels: int, offset_rule: str = "resized", norm_groups: int = 16):
        super().__init__()
        if offset_rule not in OFFSET_RULES:
            raise ValueError(f"offset_rule is {offset_rule!r}; choose one of {OFFSET_RULES}")
        self.offset_rule = offset_rule
        self.conv_high = DeformConvNorm(channels, groups=norm_groups)
        self.conv_mid = DeformConvNorm(channels, groups=norm_groups)
        self.conv_low = DeformConvNorm(channels, stride=2, groups=norm_groups)
        self.scale_attention = nn.Conv2d(channels, 1, 1)
        self.offset = nn.Conv2d(channels, 3 * TAPS, 3, padding=1)
        self.relu = DynamicReLU(channels)
        # Start as a plain convolution (Zhu et al. 2019): no offset, every tap at half weight.
        for parameter in (*self.offset.parameters(), *self.scale_attention.parameters()):
            nn.init.zeros_(parameter)
        nn.init.normal_(self.scale_attention.weight, std=0.01)

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Levels (B, C, h, w), fine to coarse -> the same shapes. All read the block's inputs."""
        if runs_kernels(features[0]) and not any(map(is_watched, self.children())):
            return self._merge_by_kernels(features)
        # Each level is sampled by up to three convolutions: rounded once.
        features = [f.to(inference_dtype(f, *self.parameters())) for f in features]
        return [self.relu(self._merge(features, level)) for level in range(len(features))]

    def _branches(self, features: list[torch.Tensor], level: int) -> list[_Branch]:
        x = features[level]
        offset, modulation = at_least_float32(self.offset(x)).split((2 * TAPS, TAPS), dim=1)
        modulation = modulation.sigmoid()
        branches = [_Branch(self.conv_mid, x, offset, modulation)]
        if level > 0:
            branches.append(_Branch(self.conv_low, features[level - 1], offset, modulation))
        if level + 1 < len(features):
            coarser = features[level + 1]
            positions = (
                offsets_for_coarser(of_level, coarser.shape[-2:], self.offset_rule)
                for of_level in (offset, modulation)
            )
            branches.append(_Branch(self.conv_high, coarser, *positions))
        return branches

    def _merge(self, features: list[torch.Tensor], level: int) -> torch.Tensor:
        maps = []
        for conv, x, offset, modulation in self._branches(features, level):
            y = conv(x, offset, modulation)
            if conv is self.conv_high:
                size = features[level].shape[-2:]
                y = F.interpolate(y, size=size, mode="bilinear", align_corners=True)
            maps.append(y)
        weights = (self._scale_weight(y.mean(dim=(2, 3), keepdim=True)) for y in maps)
        return sum(y * weight for y, weight in zip(maps, weights)) / len(maps)

    def _scale_weight(self, pooled: torch.Tensor) -> torch.Tensor:
        return F.hardsigmoid(F.relu(self.scale_attention(pooled)))

    def _merge_by_kernels(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """The same on a GPU: the equations of `merge_kernels`."""
        from .merge_kernels import merge_level  # needs Triton
        from .statistics_kernels import channel_statistics

        dtype = convolution_dtype(self.conv_mid.weight)
        features = [f.to(dtype) for f in features]
        operands = {c: c.operands() for c in (self.conv_mid, self.conv_low, self.conv_high)}
        branches = [self._branches(features, level) for level in range(len(features))]
        maps = [
            {b.conv: b.conv.sample(*b[1:], operands[b.conv]) for b in level} for level in branches
        ]
        sizes = [x.shape[-2:] for x, level in zip(features, maps) for _ in level]
        statistics = channel_statistics([y for level in maps for y in level.values()], sizes)
        norms = [conv.norm for level in maps for conv in level]
        factor, shift = _normalization(norms, *statistics[:2])
        pooled = factor * statistics[2] + shift  # (branches, B, C), of the maps when resized
        # Of a model in half precision these layers take half precision.
        own = self.conv_mid.weight.dtype
        weights = self._scale_weight(pooled.to(own).flatten(0, 1)[:, :, None, None])
        weights = weights.to(pooled).view(*pooled.shape[:2], 1)
        scales, shifts, means, start = [], [], [], 0
        for level in maps:
            rows, start = slice(start, start + len(level)), start + len(level)
            weight = weights[rows] / len(level)
            scales.append(factor[rows] * weight)
            shifts.append((shift[rows] * weight).sum(0))
            means.append((pooled[rows] * weight).sum(0))
        lines = torch.stack(self.relu.lines(torch.stack(means).to(own))).to(pooled)
        merged = [
            merge_level(
                level[self.conv_mid], level.get(self.conv_low), level.get(self.conv_high), *of_level
            )
            for level, *of_level in zip(maps, scales, shifts, lines.unbind(1))
        ]
        return [x.to(own) for x in merged]


class DyHead(nn.Module):
    """The tower without language, of `num_blocks` dynamic convolutions: GLIP-T (A).

    Attributes:
        reads: the field of TextFeatures that it needs; the words of an exported model are these.
    """

    reads = "embedded"

    def __init__(
        self,
        *,
        num_blocks: int,
        channels: int,
        offset_rule: str = "resized",
        use_checkpoint: bool = False,
    ):
        super().__init__()
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(DynamicConv(channels, offset_rule) for _ in range(num_blocks))

    def forward(
        self, features: list[torch.Tensor], text: TextFeatures
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Levels (B, C, h, w) -> levels, and the words (B, T, L) that the head classifies with.

        These are the language backbone's `embedded`, untouched by the image.
        """
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                features = checkpoint(block, features, use_reentrant=False)
            else:
                features = block(features)
        return features, text.embedded
