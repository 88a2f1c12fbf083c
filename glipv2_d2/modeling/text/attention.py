"""Which words of a text see which."""

import torch

__all__ = ["later_words"]


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
