"""CoSwin: Swin with convolutional embeddings (Florence, arXiv 2111.11432, Section 2.3)."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from .swin import SwinBackbone

__all__ = ["CoSwinBackbone"]


class ConvEmbed(nn.Module):
    """Overlapping embedding: a strided convolution, then LayerNorm (CvT, arXiv 2103.15808)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int):
        super().__init__()
        self.stride = stride
        # So that kernel and stride cover the map from its first pixel on: 2 of 7 by 4, 1 of 3 by 2.
        self.proj = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=(kernel - stride + 1) // 2
        )
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, ceil(H / stride), ceil(W / stride), C')."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class ConvMerging(ConvEmbed):
    """In place of Swin's patch merging, between two stages: half the sides, twice the channels."""

    def __init__(self, dim: int):
        super().__init__(dim, 2 * dim, kernel=3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        return super().forward(x.permute(0, 3, 1, 2))


@BACKBONE_REGISTRY.register()
class CoSwinBackbone(SwinBackbone):
    """SwinBackbone whose patch embedding and patch merging are convolutions that overlap.

    Florence replaces both modules of Swin "with the convolutional embedding layers as described in
    CvT": a 7x7 convolution of stride 4 in front, 3x3 of stride 2 between the stages, each with a
    LayerNorm after it. GLIP's official code has the same layers in its "v2" Swin, which pads the
    image to a multiple of 7 first (800 pixels become 201 positions); here it is padded to a
    multiple of 4, like a Swin's.

    Args:
        pretrained: a file in the layout of the official "v2" Swin. Florence's was not published.
        others: as in SwinBackbone.
    """

    @configurable
    def __init__(self, *, pretrained: str | None = None, **others):
        super().__init__(**others)
        dim = self._out_feature_channels["res2"]
        self.patch_embed = ConvEmbed(3, dim, kernel=7, stride=4)
        for stage in self.stages[:-1]:
            stage.downsample = ConvMerging(dim)
            dim *= 2
        if pretrained:
            self._load_pretrained(pretrained)
        self._freeze()
