"""Self-attention of words: which see which, and how a text goes on word by word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["KeyValueCache", "TextLayer", "attend", "visible_words"]


def visible_words(mask: torch.Tensor, causal: torch.Tensor | None = None) -> torch.Tensor:
    """Which words each word of a text looks at, (B, 1 or T, T) bool.

    Args:
        mask: (B, T) bool, the padding mask.
        causal: (B,) bool, the texts whose words look at none after them; None: none of them.
    """
    visible = mask[:, None]
    if causal is None:
        return visible
    later = torch.ones(2 * mask.shape[1:], dtype=torch.bool, device=mask.device).triu(1)
    return visible & ~(causal[:, None, None] & later)


class KeyValueCache:
    """The keys and values of the words of causal texts in each layer, so that they can go on.

    It belongs to one call of the model. Its texts are equally long.
    """

    def __init__(self):
        self._layers: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def length(self) -> int:
        """The words that every layer has had."""
        return min((keys.shape[2] for keys, _ in self._layers.values()), default=0)

    def visible_to(self, words: torch.Tensor) -> torch.Tensor:
        """`visible_words` of n new words (B, n, ...): (1, n, length + n)."""
        size = words.shape[1], self.length + words.shape[1]
        return torch.ones(size, dtype=torch.bool, device=words.device).tril(self.length)[None]

    def extend(
        self, layer: nn.Module, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep (B, heads, n, d) of n new words of a layer; returns those of all its words."""
        if layer in self._layers:
            old_keys, old_values = self._layers[layer]
            keys, values = torch.cat((old_keys, keys), 2), torch.cat((old_values, values), 2)
        self._layers[layer] = keys, values
        return keys, values

    def of(self, layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values (B, heads, length, d) of a layer that has had words."""
        return self._layers[layer]

    def select(self, texts: torch.Tensor) -> None:
        """Go on with these of the B texts, (B',) int64, each as often as it is named."""
        self._layers = {
            layer: (keys[texts], values[texts]) for layer, (keys, values) in self._layers.items()
        }


def attend(
    layer: nn.Module,
    projected: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    num_heads: int,
    visible: torch.Tensor,
    dropout: float = 0.0,
    cache: KeyValueCache | None = None,
    front: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Multi-head attention of n words to themselves and to those before them in the cache.

    Args:
        layer: in whose name the cache keeps keys and values.
        projected: queries, keys and values, (B, n, L) each.
        visible: see `visible_words` and `KeyValueCache.visible_to`.
        dropout: of the attention weights.
        front: keys and values, (B, heads, N, d), of N positions in front of all words.

    Returns:
        (B, n, L), the heads side by side, not yet projected.
    """
    query, keys, values = (x.unflatten(2, (num_heads, -1)).transpose(1, 2) for x in projected)
    if cache is not None:
        keys, values = cache.extend(layer, keys, values)
    if front is not None:
        keys, values = torch.cat((front[0], keys), 2), torch.cat((front[1], values), 2)
    attended = F.scaled_dot_product_attention(query, keys, values, visible[:, None], dropout)
    return attended.transpose(1, 2).flatten(2)


class TextLayer(nn.Module):
    """Self-attention and feed-forward on words, with the parameters' names of
    `nn.TransformerEncoderLayer`; its words may go on from earlier ones.

    Args:
        channels: L. num_heads: of the attention. ffn_channels: of the feed-forward.
        activation: of the feed-forward.
        dropout: of attention weights and of both updates.
        norm_first: LayerNorm before each update, as in CLIP; else after it, as in BERT.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        ffn_channels: int,
        *,
        activation: nn.Module,
        dropout: float,
        layer_norm_eps: float,
        norm_first: bool,
    ):
        super().__init__()
        # It holds the parameters; `attend` is the attention.
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout)
        self.linear1 = nn.Linear(channels, ffn_channels)
        self.activation = activation
        self.linear2 = nn.Linear(ffn_channels, channels)
        self.norm1 = nn.LayerNorm(channels, layer_norm_eps)
        self.norm2 = nn.LayerNorm(channels, layer_norm_eps)
        self.norm_first = norm_first
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, words: torch.Tensor, visible: torch.Tensor, cache: KeyValueCache | None = None
    ) -> torch.Tensor:
        """Words (B, n, L) -> the same shape; see `attend`."""
        if self.norm_first:
            words = words + self._attention(self.norm1(words), visible, cache)
            return words + self._feed_forward(self.norm2(words))
        words = self.norm1(words + self._attention(words, visible, cache))
        return self.norm2(words + self._feed_forward(words))

    def _attention(
        self, words: torch.Tensor, visible: torch.Tensor, cache: KeyValueCache | None
    ) -> torch.Tensor:
        own = self.self_attn
        query, keys, values = F.linear(words, own.in_proj_weight, own.in_proj_bias).chunk(3, dim=-1)
        dropout = own.dropout if self.training else 0.0
        attended = attend(self, (query, keys, values), own.num_heads, visible, dropout, cache)
        return self.dropout(own.out_proj(attended))

    def _feed_forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear2(self.activation(self.linear1(words))))
