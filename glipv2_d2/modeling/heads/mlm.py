"""Masked language modeling on the fused words (GLIPv2, Section 3.1 and Eq. 2; masking: BERT)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...language.prompt import Prompt
from ...language.tokenized import TokenizedPrompts
from ..precision import without_autocast
from ..processes import mean_over_processes

__all__ = ["MaskedLanguageHead", "MaskedWords"]

NOT_PREDICTED = -100


class MaskedWords(NamedTuple):
    """What the model is shown, and what it has to say.

    Attributes:
        tokens: the prompts with some words replaced; mask and positive maps are those of the
            unmasked prompts.
        labels: (B, T) int64, the word that stood there, -100 where nothing is predicted.
    """

    tokens: TokenizedPrompts
    labels: torch.Tensor


class MaskedLanguageHead(nn.Module):
    """Predicts the words that were taken out of a prompt from the fused words and so the image.

    Two layers, as in BERT: `transform` (linear, GELU, LayerNorm) and `decoder`.

    Args:
        text_channels: L.
        vocabulary_size: V, of the tokenizer.
        mask_prob: how many of the words that may be masked are, on average. Of these 80 % become
            the mask token, 10 % a random entry of the vocabulary, 10 % stay (Devlin et al. 2019).
        weight: factor of the loss.
    """

    def __init__(
        self,
        *,
        text_channels: int,
        vocabulary_size: int,
        mask_prob: float = 0.15,
        weight: float = 1.0,
    ):
        super().__init__()
        if not 0 < mask_prob <= 1:
            raise ValueError(f"mask_prob must lie in (0, 1], got {mask_prob}")
        self.vocabulary_size = vocabulary_size
        self.mask_prob = mask_prob
        self.weight = weight
        self.transform = nn.Sequential(
            nn.Linear(text_channels, text_channels), nn.GELU(), nn.LayerNorm(text_channels)
        )
        self.decoder = nn.Linear(text_channels, vocabulary_size)

    @torch.no_grad()
    def mask(
        self,
        tokens: TokenizedPrompts,
        prompts: Sequence[Prompt],
        gt_phrases: Sequence[torch.Tensor],
        mask_token_id: int,
    ) -> MaskedWords:
        """Take words out of B prompts, at random (torch's generator of the tokens' device).

        Of a detection prompt only the names that are in the image, of a caption all of its own
        words: what is not about the image cannot be told from it.

        Args:
            tokens: of `prompts`, from the tokenizer.
            gt_phrases: per image (G,) int64, the phrase of each box in its prompt.
            mask_token_id: of the tokenizer.

        Raises:
            ValueError: the tokenizer does not say which tokens are words.
        """
        if tokens.own_words is None:
            raise ValueError(
                "masked language modeling needs tokens with own_words, which PromptTokenizer "
                "gives: use a language backbone that reads the whole prompt, or no mlm_head"
            )
        labels = torch.full_like(tokens.input_ids, NOT_PREDICTED)
        shape, device = labels.shape, labels.device
        may_be_masked = maskable_words(tokens, prompts, gt_phrases)
        predicted = may_be_masked & (torch.rand(shape, device=device) < self.mask_prob)
        labels[predicted] = tokens.input_ids[predicted]
        fate = torch.rand(shape, device=device)
        shown = tokens.input_ids.masked_fill(predicted & (fate < 0.8), mask_token_id)
        random_ids = torch.randint(self.vocabulary_size, shape, device=device)
        shown = torch.where(predicted & (fate >= 0.8) & (fate < 0.9), random_ids, shown)
        return MaskedWords(replace(tokens, input_ids=shown), labels)

    def logits(self, words: torch.Tensor) -> torch.Tensor:
        """Words (..., L) -> (..., V), in float32 always."""
        with without_autocast(words.device.type):
            return self.decoder(self.transform(words.float()))

    def forward(self, words: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted cross-entropy, averaged over the predicted words of all processes.

        Args:
            words: (B, T, L), fused.
            labels: (B, T) int64, -100 where nothing is predicted.

        Returns:
            A scalar; 0 with a gradient for every parameter where nothing is predicted.
        """
        predicted = labels != NOT_PREDICTED
        # The vocabulary is wide: only the words that are asked for go through the decoder.
        logits = self.logits(words[predicted])
        loss = F.cross_entropy(logits, labels[predicted], reduction="sum")
        # Not at least 1: of one word in N processes the mean is 1 / N. The smallest divisor keeps
        # processes without any at 0 instead of 0 / 0.
        count = mean_over_processes(predicted.sum().float()).clamp(min=1e-6)
        return self.weight * loss / count


def maskable_words(
    tokens: TokenizedPrompts, prompts: Sequence[Prompt], gt_phrases: Sequence[torch.Tensor]
) -> torch.Tensor:
    """(B, T) bool: the words that the image can tell; arguments of `MaskedLanguageHead.mask`."""
    rows = []
    for words, prompt, phrases, phrase_words in zip(
        tokens.own_words, prompts, gt_phrases, tokens.positive_maps
    ):
        if prompt.kind == "detection":
            words = words & phrase_words[phrases].any(dim=0)
        rows.append(words)
    return torch.stack(rows)
