"""The fusion neck: language-aware deep fusion of GLIP (Section 3.2)."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..text.attention import later_words
from ..text.clip_text import pre_norm_layer
from ..text.features import TextFeatures
from .bi_attention import BiAttentionFusion
from .dyhead import DynamicConv

__all__ = ["VLBlock", "VLTower"]


def text_layer(
    channels: int, num_heads: int, ffn_channels: int, dropout: float, norm: str = "post"
) -> nn.Module:
    """A layer on the words.

    Args:
        norm: "post": BERT's, post-LayerNorm, erf GELU, epsilon 1e-12. "pre": CLIP's (see
            `pre_norm_layer`), which has no dropout; for GLIPv2-B and H (paper, Appendix E).
    """
    if norm == "pre":
        return pre_norm_layer(channels, num_heads, ffn_channels)
    if norm != "post":
        raise ValueError(f"text_norm={norm!r} is neither 'post' (BERT) nor 'pre' (CLIP)")
    layer = nn.TransformerEncoderLayer(
        channels, num_heads, ffn_channels, dropout, "gelu", layer_norm_eps=1e-12, batch_first=True
    )
    layer.dropout = nn.Dropout(0.0)  # BERT has no dropout between its two feed-forward projections
    return layer


class VLBlock(nn.Module):
    """Bi-directional attention, a text layer on the words, a dynamic convolution on the image."""

    def __init__(self, fusion: BiAttentionFusion, text_layer: nn.Module, dynamic_conv: DynamicConv):
        super().__init__()
        self.fusion = fusion
        self.text_layer = text_layer
        self.dynamic_conv = dynamic_conv

    def forward(
        self, features: list[torch.Tensor], words: torch.Tensor, text: TextFeatures
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Levels (B, C, h, w) and words (B, T, L) -> both anew; `text`: its masks are read."""
        sizes = [f.shape[-2:] for f in features]
        visual = torch.cat([f.flatten(2).transpose(1, 2) for f in features], dim=1)
        visual, words = self.fusion(visual, words, text.mask, text.seen_by_image)
        later = later_words(text.causal, words.shape[1])
        if later is not None:
            later = later.repeat_interleave(self.text_layer.self_attn.num_heads, dim=0)
        words = self.text_layer(words, src_mask=later, src_key_padding_mask=~text.mask)
        levels = visual.split([h * w for h, w in sizes], dim=1)
        features = [v.unflatten(1, size).permute(0, 3, 1, 2) for v, size in zip(levels, sizes)]
        return self.dynamic_conv(features), words


class VLTower(nn.Module):
    """`num_blocks` VLBlocks.

    Args:
        channels: C, of the pyramid. text_channels: L, of the language backbone.
        fusion_heads, fusion_head_channels: of the bi-directional attention (official 8 and 256).
        text_heads, text_ffn_channels: of the text layers (BERT-base's 12 and 3072).
        text_norm: "post" for BERT's layers, "pre" for CLIP's (see `text_layer`).
        offset_rule: see `DynamicConv`; "raw_memory" for official weights.
        dropout: of attention weights and of the text layers.
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
        use_checkpoint: bool = False,
    ):
        super().__init__()
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
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                features, words = checkpoint(block, features, words, text, use_reentrant=False)
            else:
                features, words = block(features, words, text)
        return features, words
