"""Grounding head: region-word logits instead of class logits (GLIP, Section 3.1)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..precision import at_least_float32, without_autocast

__all__ = ["GroundingHead", "GroundingOutput"]


class GroundingOutput(NamedTuple):
    """Predictions at the N positions of all levels, fine to coarse, row-major; one anchor each.

    Attributes:
        logits: (B, N, T) region-word alignment before the sigmoid; padded tokens hold numbers of no
            meaning.
        deltas: (B, N, 4) box deltas relative to the anchors.
        centerness: (B, N) before the sigmoid.
        level_sizes: (h, w) of each level; the areas sum to N.
    """

    logits: torch.Tensor
    deltas: torch.Tensor
    centerness: torch.Tensor
    level_sizes: list[tuple[int, int]]

    def level_lengths(self) -> list[int]:
        return [h * w for h, w in self.level_sizes]


class GroundingHead(nn.Module):
    """1x1 predictors of box and centerness, and the dot product of positions and words.

    logit = x . W(e / 2) / exp(log_scale) + e . bias_lang + bias0, with e the unit-length word
    feature.

    Args:
        channels: C. text_channels: L.
        num_levels: of the pyramid; each has its own scale of the box deltas.
        log_scale: start of the learned log temperature (official 0).
        prior_prob: foreground probability at the start of training.
        max_logit: logits are clamped to +- this.
    """

    def __init__(
        self,
        *,
        channels: int,
        text_channels: int,
        num_levels: int = 5,
        log_scale: float = 0.0,
        prior_prob: float = 0.01,
        max_logit: float = 50000.0,
    ):
        super().__init__()
        self.max_logit = max_logit
        self.bbox_pred = nn.Conv2d(channels, 4, 1)
        self.centerness = nn.Conv2d(channels, 1, 1)
        self.box_scales = nn.Parameter(torch.ones(num_levels))
        self.text_projection = nn.Linear(text_channels, channels)
        self.log_scale = nn.Parameter(torch.tensor([float(log_scale)]))
        self.bias0 = nn.Parameter(torch.tensor([-math.log((1 - prior_prob) / prior_prob)]))
        self.bias_lang = nn.Parameter(torch.zeros(text_channels))
        for conv in (self.bbox_pred, self.centerness):
            for parameter in conv.parameters():
                nn.init.zeros_(parameter)
            nn.init.normal_(conv.weight, std=0.01)

    @property
    def num_levels(self) -> int:
        return len(self.box_scales)

    def forward(self, features: Sequence[torch.Tensor], words: torch.Tensor) -> GroundingOutput:
        """Levels (B, C, h, w) and words (B, T, L) -> GroundingOutput, in float32 at least.

        Autocast plays no part; a model in half precision computes in its own.
        """
        dtype = self.log_scale.dtype
        with without_autocast(words.device.type):
            features = [f.to(dtype) for f in features]
            deltas = [self.bbox_pred(f) * s for f, s in zip(features, self.box_scales)]
            centerness = [self.centerness(f) for f in features]
            return GroundingOutput(
                logits=at_least_float32(self._align(_flatten(features), words.to(dtype))),
                deltas=at_least_float32(_flatten(deltas)),
                centerness=at_least_float32(_flatten(centerness)[..., 0]),
                level_sizes=[(f.shape[-2], f.shape[-1]) for f in features],
            )

    def _align(self, positions: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """(B, N, C) and (B, T, L) -> (B, N, T)."""
        words = F.normalize(words, dim=-1)
        tokens = self.text_projection(words / 2)
        # Not words @ bias_lang: the counters of operations (fvcore) know no matrix times a vector.
        bias = F.linear(words, self.bias_lang[None], self.bias0).transpose(1, 2)
        # The temperature divides the short side: the same product, N / T times fewer divisions.
        logits = positions @ (tokens / self.log_scale.exp()).transpose(1, 2) + bias
        return logits.clamp(-self.max_logit, self.max_logit)


def _flatten(levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Levels (B, C, h, w) -> (B, N, C)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
