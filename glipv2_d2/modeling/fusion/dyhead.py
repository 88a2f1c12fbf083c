"""Dynamic head block (Dai et al. 2021): scale, spatial and task attention over the pyramid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..blocks import inference_dtype
from ..precision import at_least_float32
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        coefficients = F.hardsigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3))))))
        a1, b1, a2, b2 = (coefficients - 0.5).to(x.dtype)[:, :, None, None].chunk(4, dim=1)
        return torch.maximum(x * (2 * a1 + 1) + b1, x * (2 * a2) + b2)


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
        # Each level is sampled by up to three convolutions: rounded once.
        features = [f.to(inference_dtype(f, *self.parameters())) for f in features]
        return [self.relu(self._merge(features, level)) for level in range(len(features))]

    def _merge(self, features: list[torch.Tensor], level: int) -> torch.Tensor:
        x = features[level]
        offset, modulation = at_least_float32(self.offset(x)).split((2 * TAPS, TAPS), dim=1)
        modulation = modulation.sigmoid()
        branches = [self.conv_mid(x, offset, modulation)]
        if level > 0:
            branches.append(self.conv_low(features[level - 1], offset, modulation))
        if level + 1 < len(features):
            branches.append(self._from_coarser(features[level + 1], offset, modulation))
        return sum(branch * self._scale_weight(branch) for branch in branches) / len(branches)

    def _from_coarser(
        self, coarser: torch.Tensor, offset: torch.Tensor, modulation: torch.Tensor
    ) -> torch.Tensor:
        size = coarser.shape[-2:]
        high = self.conv_high(
            coarser,
            offsets_for_coarser(offset, size, self.offset_rule),
            offsets_for_coarser(modulation, size, self.offset_rule),
        )
        return F.interpolate(high, size=offset.shape[-2:], mode="bilinear", align_corners=True)

    def _scale_weight(self, branch: torch.Tensor) -> torch.Tensor:
        pooled = branch.mean(dim=(2, 3), keepdim=True)
        return F.hardsigmoid(F.relu(self.scale_attention(pooled)))


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
