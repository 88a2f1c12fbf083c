"""Which words of a text see which."""

import torch

__all__ = ["additive_mask", "later_words"]


def later_words(causal: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """(B, T, T) bool, True where a word of a causal text must not look: at those after it.

    Args:
        causal: (B,) bool, the texts that are causal; None: none, and nothing is hidden.
        length: T.
    """
    if causal is None:
        return None
    later = torch.ones(length, length, dtype=torch.bool, device=causal.device).triu(1)
    return causal[:, None, None] & later


def additive_mask(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, Q, K) bool, True where a position looks -> (B, 1, Q, K), 0 there, elsewhere the minimum.

    The layers of `transformers` take a mask of four dimensions as it is.
    """
    mask = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return mask[:, None]
