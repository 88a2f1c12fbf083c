"""The layers of the head computed as the official GLIP computes them, on our modules' parameters.

Nothing is folded, gathered or shared: three projections of the image to heads * head_channels, a
materialized (B * heads, N, T) score tensor that is clamped, maximized, masked and softmaxed in
separate passes, one call of torchvision's deformable convolution per branch. Only names and shapes
of *parameters* are taken from our modules, so that work on our forward functions cannot leak into
the reference.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import deform_conv2d

_CLAMP = 50000.0
_OUTSIDE = -9e15
_TAPS = 9


def _clamp(x: torch.Tensor) -> torch.Tensor:
    """Two passes, as the official code has two switches."""
    return torch.clamp(torch.clamp(x, min=-_CLAMP), max=_CLAMP)


class OfficialFusion(nn.Module):
    """Bi-directional attention, unfolded, with its norms and its residual.

    Args:
        source: a BiAttentionFusion.
        use_checkpoint: recompute in the backward pass, which the official GLIP-T config does.
    """

    def __init__(self, source: nn.Module, use_checkpoint: bool = False):
        super().__init__()
        self.source = source
        self.use_checkpoint = use_checkpoint

    def forward(
        self, levels: list[torch.Tensor], words: torch.Tensor, mask: torch.Tensor
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Levels (B, C, h, w), words (B, T, L), mask (B, T) of 0 and 1 -> both anew."""
        if self.use_checkpoint and self.training:
            return checkpoint(self._fuse, levels, words, mask, use_reentrant=False)
        return self._fuse(levels, words, mask)

    def _fuse(self, levels, words, mask):
        source = self.source
        sizes = [level.shape[-2:] for level in levels]
        visual = torch.cat([f.flatten(2).transpose(1, 2).contiguous() for f in levels], dim=1)
        visual, words = source.norm_v(visual), source.norm_l(words)
        delta_visual, delta_words = self._attend(visual, words, mask)
        visual = visual + source.drop_path(source.gamma_v * delta_visual)
        words = words + source.drop_path(source.gamma_l * delta_words)
        maps = visual.transpose(1, 2).contiguous().split([h * w for h, w in sizes], dim=2)
        return [m.unflatten(2, size).contiguous() for m, size in zip(maps, sizes)], words

    def _attend(self, visual, words, mask):
        attention = self.source.attention
        heads = attention.num_heads
        batch, positions, _ = visual.shape
        tokens = words.shape[1]

        def split(x: torch.Tensor) -> torch.Tensor:  # (B, n, inner) -> (B * heads, n, width)
            x = x.view(batch, x.shape[1], heads, -1).transpose(1, 2).contiguous()
            return x.view(batch * heads, x.shape[2], x.shape[3])

        def join(x: torch.Tensor) -> torch.Tensor:
            x = x.view(batch, heads, x.shape[1], x.shape[2]).transpose(1, 2)
            return x.reshape(batch, x.shape[1], -1)

        width = attention.v_proj.out_features // heads
        query = split(attention.v_proj(visual) * width**-0.5)
        key = split(attention.l_proj(words))
        visual_values = split(attention.values_v_proj(visual))
        word_values = split(attention.values_l_proj(words))

        scores = _clamp(torch.bmm(query, key.transpose(1, 2)))  # (B * heads, N, T)
        transposed = scores.transpose(1, 2)
        to_image = transposed - torch.max(transposed, dim=-1, keepdim=True)[0]
        to_image = _clamp(to_image).softmax(dim=-1)

        additive = mask[:, None, None].expand(batch, 1, positions, tokens)
        additive = additive.masked_fill(additive == 0, _OUTSIDE)
        scores = scores.view(batch, heads, positions, tokens) + additive
        to_words = scores.view(batch * heads, positions, tokens).softmax(dim=-1)

        to_words = F.dropout(to_words, attention.dropout, self.training)
        to_image = F.dropout(to_image, attention.dropout, self.training)
        delta_visual = attention.out_v_proj(join(torch.bmm(to_words, word_values)))
        delta_words = attention.out_l_proj(join(torch.bmm(to_image, visual_values)))
        return delta_visual, delta_words


class OfficialTextLayer(nn.Module):
    """A BERT layer with explicit attention scores and the official clamps.

    Args:
        source: the block's text layer, with the parameter names of nn.TransformerEncoderLayer.
    """

    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Words (B, T, L), mask (B, T) of 0 and 1 -> (B, T, L)."""
        source = self.source
        attended = source.dropout(self._attend(words, mask))
        words = source.norm1(attended + words)
        inner = _clamp(F.gelu(_clamp(source.linear1(words))))
        inner = _clamp(source.dropout(source.linear2(inner)))
        return _clamp(source.norm2(inner + words))

    def _attend(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        attention = self.source.self_attn
        batch, tokens, width = words.shape
        heads = attention.num_heads
        query, key, value = (
            F.linear(words, weight, bias).view(batch, tokens, heads, -1).permute(0, 2, 1, 3)
            for weight, bias in zip(
                attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
            )
        )
        scores = torch.matmul(query, key.transpose(-1, -2)) / (width // heads) ** 0.5
        additive = (1.0 - mask[:, None, None].to(scores.dtype)) * torch.finfo(scores.dtype).min
        weights = (_clamp(scores) + additive).softmax(dim=-1)
        weights = F.dropout(weights, attention.dropout, self.training)
        context = torch.matmul(weights, value).permute(0, 2, 1, 3).contiguous()
        return attention.out_proj(context.view(batch, tokens, width))


class _DeformConvNorm(nn.Module):
    """torchvision's modulated deformable 3x3 convolution, then GroupNorm."""

    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source

    def forward(self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        source = self.source
        stride = source.stride
        size = [(side + stride - 1) // stride for side in x.shape[-2:]]
        # torchvision has no half-precision kernel on every device: float32 always.
        with torch.autocast(x.device.type, enabled=False):
            y = deform_conv2d(
                x.float(),
                _as_if_of_size(offset.float(), size),
                source.weight,
                source.bias,
                stride,
                padding=1,
                mask=_as_if_of_size(mask.float(), size),
            )
        return source.norm(y)


def _as_if_of_size(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    """The raw-memory rule of the official operator, which never checks the size of its offsets.

    (B, K, H, W) -> (B, K, h, w): the first K * h * w values of each sample.
    """
    if list(x.shape[-2:]) == size:
        return x
    kinds, count = x.shape[1], x.shape[1] * size[0] * size[1]
    return x.reshape(len(x), -1)[:, :count].reshape(len(x), kinds, *size)


class OfficialDynamicConv(nn.Module):
    """The dynamic head's block, one branch after the other.

    Args:
        source: a DynamicConv.
    """

    def __init__(self, source: nn.Module):
        super().__init__()
        self.source = source
        self.offset = source.offset
        self.conv_high = _DeformConvNorm(source.conv_high)
        self.conv_mid = _DeformConvNorm(source.conv_mid)
        self.conv_low = _DeformConvNorm(source.conv_low)

    def forward(self, levels: list[torch.Tensor]) -> list[torch.Tensor]:
        """Levels (B, C, h, w) -> the same shapes."""
        merged = [self._merge(levels, i) for i in range(len(levels))]
        return [self._dynamic_relu(x) for x in merged]

    def _merge(self, levels: list[torch.Tensor], i: int) -> torch.Tensor:
        x = levels[i]
        both = self.offset(x)
        offset, mask = both[:, : 2 * _TAPS], both[:, 2 * _TAPS :].sigmoid()
        branches = [self.conv_mid(x, offset, mask)]
        if i > 0:
            branches.append(self.conv_low(levels[i - 1], offset, mask))
        if i + 1 < len(levels):
            high = self._from_coarser(levels[i + 1], offset, mask)
            size = x.shape[-2:]
            branches.append(F.interpolate(high, size=size, mode="bilinear", align_corners=True))
        scale = self.source.scale_attention
        weights = [F.relu(scale(F.adaptive_avg_pool2d(branch, 1))) for branch in branches]
        stacked = torch.stack(branches)
        return torch.mean(stacked * (F.relu6(torch.stack(weights) + 3) / 6), dim=0)

    def _from_coarser(self, coarser, offset, mask) -> torch.Tensor:
        if self.source.offset_rule == "resized":  # a model of ours that was never the official's
            size = coarser.shape[-2:]
            offset, mask = (
                F.interpolate(x, size=size, mode="bilinear", align_corners=False)
                for x in (offset, mask)
            )
        return self.conv_high(coarser, offset, mask)

    def _dynamic_relu(self, x: torch.Tensor) -> torch.Tensor:
        relu = self.source.relu
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
        coefficients = F.relu6(relu.fc2(F.relu(relu.fc1(pooled))) + 3) / 6
        a1, b1, a2, b2 = coefficients[:, :, None, None].split(x.shape[1], dim=1)
        a1, a2 = (a1 - 0.5) * 2 + 1, (a2 - 0.5) * 2
        return torch.max(x * a1 + (b1 - 0.5), x * a2 + (b2 - 0.5))
