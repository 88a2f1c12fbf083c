"""Bi-directional cross attention of image and text (GLIP, Section 3.2), folded onto the text."""

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn

from ..blocks import block_rows, inference_dtype, records_gradients, runs_kernels
from ..precision import at_least_float32

__all__ = ["BiAttention", "BiAttentionFusion"]


class BiAttention(nn.Module):
    """Multi-head attention in both directions from one score matrix.

    With per-head projections the scores are S = (v Wq)(l Wk)^T / sqrt(d). The image has some 20,000
    positions, the text at most 256 tokens, so every projection of the image is moved onto the text:

        S       = v M + c         with M = Wq (l Wk)^T / sqrt(d), c = bq (l Wk)^T / sqrt(d)
        delta_v = P_v U + b       with U = (l Wvl) Wov, P_v = softmax of S over the tokens
        delta_l = (P_l v) Wvv + rowsum(P_l) bvv, then Wol;  P_l = softmax of S over the positions

    This is exact algebra (`tests/modeling/fusion` holds the unfolded form); the parameters are
    those of the official model. rowsum(P_l) is 1 but for attention dropout.

    Args:
        channels: C, of the image. text_channels: L.
        num_heads, head_channels: heads and the width of each.
        dropout: of the attention weights, in training.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        num_heads: int,
        head_channels: int,
        dropout: float = 0.1,
    ):
        super().__init__()
        inner = num_heads * head_channels
        self.num_heads = num_heads
        self.scale = head_channels**-0.5
        self.dropout = dropout
        self.v_proj = nn.Linear(channels, inner)
        self.l_proj = nn.Linear(text_channels, inner)
        self.values_v_proj = nn.Linear(channels, inner)
        self.values_l_proj = nn.Linear(text_channels, inner)
        self.out_v_proj = nn.Linear(inner, channels)
        self.out_l_proj = nn.Linear(inner, text_channels)
        for linear in (self.v_proj, self.l_proj, self.values_v_proj, self.values_l_proj,
                       self.out_v_proj, self.out_l_proj):  # fmt: skip
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, visual: torch.Tensor, text: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """visual (B, N, C), text (B, T, L), mask (B, T), True for real tokens -> deltas of both."""
        keys, bias = self.folded_keys(text)
        bias = _score_precision(bias).masked_fill(~mask[:, None, None, :], float("-inf"))
        values = self._text_values(text)
        drops = self.training and self.dropout > 0
        if runs_kernels(visual) and not drops and not records_gradients(visual, keys, values):
            return self._in_one_pass(visual, keys, bias, values)
        delta_visual = []
        pooled = _PooledImage()
        for block in visual.split(block_rows(visual, values.shape[1], keys, values), dim=1):
            scores = _score_precision(block @ keys).unflatten(2, (self.num_heads, -1))
            to_text = F.dropout((scores + bias).softmax(dim=-1), self.dropout, self.training)
            delta_visual.append(to_text.flatten(2) @ values + self.out_v_proj.bias)
            # All positions and all tokens take part here, padding too, as in the official model:
            # the pad tokens' own updates are never read. The bias is constant over the positions.
            pooled.add(scores, block, self.dropout if self.training else 0.0)
        return torch.cat(delta_visual, dim=1), self._text_update(pooled)

    def _in_one_pass(
        self, visual: torch.Tensor, keys: torch.Tensor, bias: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` on a GPU in inference: the scores are read once for both directions."""
        from .attention_kernels import both_softmaxes  # needs Triton

        visual = visual.to(inference_dtype(visual))  # once for both products
        scores = (visual @ keys).unflatten(2, (self.num_heads, -1))
        peak = scores.flatten(2).amax(dim=1, keepdim=True)
        to_text, total = both_softmaxes(scores, bias, peak)
        pooled = _PooledImage()
        pooled.add_weights(peak, scores, total, total, visual)
        delta_visual = to_text.flatten(2) @ values + self.out_v_proj.bias
        return delta_visual, self._text_update(pooled)

    def read_image(self, visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The delta (B, T, L) of the text alone, without dropout; see `forward`."""
        keys, _ = self.folded_keys(text)
        pooled = _PooledImage()
        for block in visual.split(block_rows(visual, keys.shape[2], keys), dim=1):
            scores = _score_precision(block @ keys).unflatten(2, (self.num_heads, -1))
            pooled.add(scores, block, 0.0)
        return self._text_update(pooled)

    def _heads(self, linear: nn.Linear) -> torch.Tensor:
        """The weight (inner, in) of a projection as (heads, head_channels, in)."""
        return linear.weight.view(self.num_heads, -1, linear.in_features)

    def _split(self, projected: torch.Tensor) -> torch.Tensor:
        """(B, T, inner) -> (B, heads, T, head_channels)."""
        return projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def folded_keys(self, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """M as (B, C, heads * T), and c as (B, 1, heads, T)."""
        keys = self._split(self.l_proj(text)) * self.scale
        folded = (keys @ self._heads(self.v_proj)).flatten(1, 2)
        bias = keys @ self.v_proj.bias.view(self.num_heads, -1, 1)  # (B, heads, T, 1)
        return folded.transpose(1, 2).contiguous(), bias.permute(0, 3, 1, 2)

    def _text_values(self, text: torch.Tensor) -> torch.Tensor:
        """(B, heads * T, C): each token's value of each head, through the output projection."""
        values = self._split(self.values_l_proj(text))
        out = self.out_v_proj.weight.view(-1, self.num_heads, values.shape[-1]).permute(1, 2, 0)
        return (values @ out).flatten(1, 2)

    def _text_update(self, pooled: "_PooledImage") -> torch.Tensor:
        """(B, T, L): the image as each head and token sees it, through its two projections."""
        # Summed in float32 also in a model of half precision.
        image, rowsum = (x.to(self.out_l_proj.weight.dtype) for x in pooled.mean(self.num_heads))
        values = image @ self._heads(self.values_v_proj).transpose(1, 2)
        values = values + rowsum * self.values_v_proj.bias.view(self.num_heads, 1, -1)
        return self.out_l_proj(values.transpose(1, 2).flatten(2))


def _score_precision(x: torch.Tensor) -> torch.Tensor:
    """The precision that scores and their exponentials are kept in.

    Training takes float32 at least, whatever autocast is on. Inference keeps autocast's: a product
    in bfloat16 has no more digits to lose, and the passes over heads * T numbers for each of 20,000
    positions are a third of the layer's time. Sums over the positions are float32 in both.
    """
    return x if inference_dtype(x) != torch.float32 else at_least_float32(x)


class _PooledImage:
    """P_l v of BiAttention, gathered block by block of positions.

    The softmax over the positions is the running one (Milakov and Gimelshein 2018): sums are kept
    relative to the largest score so far and rescaled when a larger one comes. With one block it is
    the plain softmax.
    """

    def __init__(self):
        # The largest score so far, the sum of weights, that after dropout: (B, 1, heads * T) each;
        # and the weighted sum of the positions, (B, C, heads * T).
        self._sums: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def add(self, scores: torch.Tensor, visual: torch.Tensor, dropout: float) -> None:
        """scores (B, n, heads, T) and visual (B, n, C) of n more positions."""
        # The maximum only scales numerator and denominator: no gradient flows through it.
        peak = scores.detach().flatten(2).amax(dim=1, keepdim=True)
        if self._sums is not None:
            peak = torch.maximum(peak, self._sums[0])
        weights = (scores - peak.unflatten(2, scores.shape[2:])).exp_()
        total = _sum_of_positions(weights)
        if dropout:
            weights = F.dropout(weights, dropout, True)
        kept = _sum_of_positions(weights) if dropout else total
        self.add_weights(peak, weights, total, kept, visual)

    def add_weights(
        self,
        peak: torch.Tensor,
        weights: torch.Tensor,
        total: torch.Tensor,
        kept: torch.Tensor,
        visual: torch.Tensor,
    ) -> None:
        """Weights (B, n, heads, T) relative to `peak` with their sums, before and after dropout."""
        # The short side is the one to transpose.
        weighted = at_least_float32(visual.transpose(1, 2) @ weights.flatten(2))
        if self._sums is not None:
            before, total_before, kept_before, weighted_before = self._sums
            shrink = at_least_float32(before - peak).exp()
            total, kept = total + total_before * shrink, kept + kept_before * shrink
            weighted = weighted + weighted_before * shrink
        self._sums = peak, total, kept, weighted

    def mean(self, num_heads: int) -> tuple[torch.Tensor, torch.Tensor]:
        """P_l v as (B, heads, T, C), and rowsum(P_l) as (B, heads, T, 1)."""
        if self._sums is None:
            raise RuntimeError("there are no positions to take a mean of")
        _, total, kept, weighted = self._sums
        image, rowsum = (
            x.transpose(1, 2).unflatten(1, (num_heads, -1))
            for x in (weighted / total, kept / total)
        )
        return image, rowsum


def _sum_of_positions(weights: torch.Tensor) -> torch.Tensor:
    """(B, n, heads, T) -> (B, 1, heads * T), in float32 at least."""
    dtype = torch.promote_types(weights.dtype, torch.float32)
    return weights.flatten(2).sum(dim=1, keepdim=True, dtype=dtype)


class BiAttentionFusion(nn.Module):
    """Pre-norm residual around BiAttention with a learned scale per channel ("gamma").

    The residual is taken from the *normalized* inputs, as in the official model.

    Args:
        init_gamma: start of the residual's scale; official 1/8.
        drop_path: stochastic depth of the update.
        position_channels: of `places` in `forward`, which the attention then reads beside the
            image; 0: it knows no places, as in the papers.
    """

    def __init__(
        self,
        channels: int,
        text_channels: int,
        num_heads: int = 8,
        head_channels: int = 256,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        init_gamma: float = 0.125,
        position_channels: int = 0,
    ):
        super().__init__()
        self.norm_v = nn.LayerNorm(channels)
        self.norm_l = nn.LayerNorm(text_channels)
        self.attention = BiAttention(channels, text_channels, num_heads, head_channels, dropout)
        self.gamma_v = nn.Parameter(torch.full((channels,), init_gamma))
        self.gamma_l = nn.Parameter(torch.full((text_channels,), init_gamma))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.positions: nn.Linear | None = None
        if position_channels:
            self.positions = nn.Linear(position_channels, channels, bias=False)
            # A quarter of a normalized feature. From zero they stay small (360 steps measured):
            # nothing that reads them is there, either.
            nn.init.normal_(self.positions.weight, std=0.05)

    def forward(
        self,
        visual: torch.Tensor,
        text: torch.Tensor,
        mask: torch.Tensor,
        seen: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse.

        Args:
            visual: (B, N, C). text: (B, T, L). mask: (B, T), True for real tokens.
            seen: (B,) bool, the texts that the image attends to; None: all. The image of another
                one stays what it is, to the last bit.
            places: (N, position_channels), of the positions.

        Returns:
            Tensors of the shapes of `visual` and `text`.
        """
        visual, text = self.norm_v(visual), self.norm_l(text)
        delta_visual, delta_text = self.attention(self.located(visual, places), text, mask)
        if seen is not None:
            delta_visual = delta_visual.masked_fill(~seen[:, None, None], 0.0)
        return (
            self._add(visual, self.gamma_v, delta_visual),
            self._add(text, self.gamma_l, delta_text),
        )

    def located(self, visual: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        """What the attention reads of the normalized image (B, N, C); `places`: see `forward`."""
        if self.positions is None or places is None:
            return visual
        told = self.positions(places.to(self.positions.weight.dtype))
        return visual + told.to(visual.dtype)

    def read_image(self, visual: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The text's side of `forward` at inference, for images that do not look at it.

        Args:
            visual: (B, N, C), of `located`.
            text: (B K, n, L), K texts of each image one after another.

        Returns:
            A tensor of the shape of `text`.
        """
        text = self.norm_l(text)
        # No word's update depends on another's: the K texts are one to the image. (`len` of a
        # tensor would be a constant in exported graphs.)
        of_image = text.reshape(visual.shape[0], -1, text.shape[-1])
        delta = self.attention.read_image(visual, of_image).view_as(text)
        return self._add(text, self.gamma_l, delta)

    def _add(self, x: torch.Tensor, gamma: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        # To one precision first: under autocast mixed operands are several times slower on CPU.
        return torch.addcmul(x, gamma, self.drop_path(delta).to(x.dtype))
