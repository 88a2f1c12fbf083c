"""The fusion neck: language-aware deep fusion of GLIP (Section 3.2)."""

import math
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..blocks import inference_dtype
from ..text.attention import KeyValueCache, TextLayer, visible_words
from ..text.clip_text import pre_norm_layer
from ..text.features import TextFeatures
from .bi_attention import BiAttentionFusion
from .dyhead import DynamicConv

__all__ = ["VLBlock", "VLTower"]

WAVES = 16
"""The wavelengths of a cell's place: from 4 to 1,024 cells of the finest level."""


def text_layer(
    channels: int, num_heads: int, ffn_channels: int, dropout: float, norm: str = "post"
) -> TextLayer:
    """A layer on the words.

    Args:
        norm: "post": BERT's, post-LayerNorm, erf GELU, epsilon 1e-12. "pre": CLIP's (see
            `pre_norm_layer`), which has no dropout; for GLIPv2-B and H (paper, Appendix E).
    """
    if norm == "pre":
        return pre_norm_layer(channels, num_heads, ffn_channels)
    if norm != "post":
        raise ValueError(f"text_norm={norm!r} is neither 'post' (BERT) nor 'pre' (CLIP)")
    return TextLayer(
        channels,
        num_heads,
        ffn_channels,
        activation=nn.GELU(),
        dropout=dropout,
        layer_norm_eps=1e-12,
        norm_first=False,
    )


class VLBlock(nn.Module):
    """Bi-directional attention, a text layer on the words, a dynamic convolution on the image."""

    def __init__(self, fusion: BiAttentionFusion, text_layer: nn.Module, dynamic_conv: DynamicConv):
        super().__init__()
        self.fusion = fusion
        self.text_layer = text_layer
        self.dynamic_conv = dynamic_conv

    def forward(
        self,
        features: list[torch.Tensor],
        words: torch.Tensor,
        text: TextFeatures,
        places: torch.Tensor | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Levels (B, C, h, w) and words (B, T, L) -> both anew.

        `text`: its masks are read. `places`: of `places_of`, for a fusion that knows positions.
        """
        visual, words = self.fusion(_flat(features), words, text.mask, text.seen_by_image, places)
        words = self.text_layer(words, visible_words(text.mask, text.causal))
        return self.dynamic_conv(_like(features, visual)), words


def _flat(features: list[torch.Tensor]) -> torch.Tensor:
    """Levels (B, C, h, w) -> positions (B, N, C)."""
    return torch.cat([f.flatten(2).transpose(1, 2) for f in features], dim=1)


def places_of(features: list[torch.Tensor]) -> torch.Tensor:
    """The places (N, 4 WAVES) of the cells of levels (B, C, h, w), fine to coarse.

    Sines and cosines of the row and the column of a cell's center, counted in cells of the finest
    level from the top left corner, so that padding changes nothing.
    """
    device = features[0].device
    steps = torch.arange(WAVES, device=device) / (WAVES - 1)
    # By exp: OpenVINO knows no exp2.
    waves = 2 * math.pi * torch.exp(-math.log(2) * (2 + 8 * steps))
    centers = []
    for level, feature in enumerate(features):
        h, w = feature.shape[-2:]
        y, x = ((torch.arange(n, device=device) + 0.5) * 2**level for n in (h, w))
        grid = (y[:, None].expand(h, w), x.expand(h, w))
        centers.append(torch.stack(grid, dim=-1).flatten(0, 1))
    angles = (torch.cat(centers)[:, :, None] * waves).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _like(features: list[torch.Tensor], visual: torch.Tensor) -> list[torch.Tensor]:
    """Positions (B, N, C) -> levels of these shapes."""
    sizes = [f.shape[-2:] for f in features]
    levels = visual.split([h * w for h, w in sizes], dim=1)
    return [v.unflatten(1, size).permute(0, 3, 1, 2) for v, size in zip(levels, sizes)]


class VLTower(nn.Module):
    """`num_blocks` VLBlocks.

    Args:
        channels: C, of the pyramid. text_channels: L, of the language backbone.
        fusion_heads, fusion_head_channels: of the bi-directional attention (official 8 and 256).
        text_heads, text_ffn_channels: of the text layers (BERT-base's 12 and 3072).
        text_norm: "post" for BERT's layers, "pre" for CLIP's (see `text_layer`).
        offset_rule: see `DynamicConv`; "raw_memory" for official weights.
        dropout: of attention weights and of the text layers.
        positions: the words read where on the image a feature is, too (see `places_of`). Ours: the
            papers' words know things but not their places, so that of "left or right of?" they
            learn nothing at all (docs/vl_understanding.md).
        use_checkpoint: recompute each block's activations in the backward pass to save memory.

    Attributes:
        reads: the field of TextFeatures that it needs; the words of an exported model are these.
    """

    reads = "hidden"

    def __init__(
        self,
        *,
        num_blocks: int,
        channels: int,
        text_channels: int,
        fusion_heads: int = 8,
        fusion_head_channels: int = 256,
        text_heads: int = 12,
        text_ffn_channels: int = 3072,
        text_norm: str = "post",
        offset_rule: str = "resized",
        dropout: float = 0.1,
        positions: bool = False,
        use_checkpoint: bool = False,
    ):
        super().__init__()
        self.positions = positions
        self.use_checkpoint = use_checkpoint
        self.blocks = nn.ModuleList(
            VLBlock(
                BiAttentionFusion(
                    channels,
                    text_channels,
                    fusion_heads,
                    fusion_head_channels,
                    dropout,
                    init_gamma=1.0 / num_blocks,
                    position_channels=4 * WAVES if positions else 0,
                ),
                text_layer(text_channels, text_heads, text_ffn_channels, dropout, text_norm),
                DynamicConv(channels, offset_rule),
            )
            for _ in range(num_blocks)
        )

    def forward(
        self, features: list[torch.Tensor], text: TextFeatures
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Fuse.

        Args:
            features: levels (B, C, h, w), fine to coarse. text: of the B prompts.

        Returns:
            The fused levels, and the fused words (B, T, L) that the head classifies with.
        """
        words = text.hidden
        places = self._places(features)
        # A frozen tower, in evaluation mode, hands gradients on to a prompt that is tuned.
        recomputes = self.use_checkpoint and (self.training or words.requires_grad)
        for block in self.blocks:
            if recomputes:
                features, words = checkpoint(
                    block, features, words, text, places, use_reentrant=False
                )
            else:
                features, words = block(features, words, text, places)
        return features, words

    def _places(self, features: list[torch.Tensor]) -> torch.Tensor | None:
        return places_of(features) if self.positions else None

    def image_sides(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """The image, as it comes into each block where it does not look at the text.

        Args:
            features: levels (B, C, h, w), fine to coarse.

        Returns:
            For each block (B, N, C), normalized.
        """
        sides: list[torch.Tensor] = []
        blocks: Any = self.blocks
        for number, block in enumerate(blocks):
            if sides:
                features = blocks[number - 1].dynamic_conv(_like(features, sides[-1]))
            sides.append(block.fusion.norm_v(_flat(features)))
        return sides

    def read_images(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """What a text that the image does not look at reads of it, in each block.

        Args:
            features: levels (B, C, h, w), fine to coarse.

        Returns:
            For each block (B, N, C), normalized; in inference in the precision of autocast.
        """
        places = self._places(features)
        blocks: Any = self.blocks
        sides = self.image_sides(features)
        read = [block.fusion.located(side, places) for block, side in zip(blocks, sides)]
        return [visual.to(inference_dtype(visual)) for visual in read]

    def read_on(
        self, words: torch.Tensor, images: list[torch.Tensor], cache: KeyValueCache
    ) -> torch.Tensor:
        """Fuse more words of causal texts that the images do not look at, as `forward` does.

        Args:
            words: (B K, n, L), K texts of each image one after another.
            images: of `read_images`, of B images.
            cache: of the words before these.

        Returns:
            The fused words (B K, n, L).
        """
        visible = cache.visible_to(words)
        blocks: Any = self.blocks
        for block, visual in zip(blocks, images):
            words = block.text_layer(block.fusion.read_image(visual, words), visible, cache)
        return words
