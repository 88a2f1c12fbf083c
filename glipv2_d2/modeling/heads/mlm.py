"""Masked language modeling on the fused words (GLIPv2, Section 3.1 and Eq. 2; masking: BERT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import ConfigError
from ...language.prompt import Prompt
from ...language.tokenized import TokenizedPrompts, Tokenizer
from ..precision import without_autocast
from ..processes import mean_over_processes
from .task_head import TaskHead, TrainingBatch, TrainingPass

if TYPE_CHECKING:
    from ..meta_arch.glip import GLIP

__all__ = ["MaskedLanguageHead"]


class MaskedLanguageHead(TaskHead):
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

    def check(self, model: GLIP) -> None:
        """See `TaskHead.check`: masks and predicts words of the model's tokenizer."""
        tokenizer = model.tokenizer
        _mask_token(tokenizer)
        if self.vocabulary_size != tokenizer.vocabulary_size:
            raise ConfigError(
                f"model.mlm_head.vocabulary_size is {self.vocabulary_size}, and the tokenizer of "
                f"the language backbone has {tokenizer.vocabulary_size} entries: set it to that"
            )

    @torch.no_grad()
    def prepare_text(self, batch: TrainingBatch, tokenizer: Tokenizer) -> TrainingBatch:
        """Withhold words of the B prompts, at random (torch's generator of the tokens' device).

        Of a detection prompt only the names that are in the image, of a sentence all of its own
        words: what is not about the image cannot be told from it. Of questions and of captions that
        are learned word by word none.
        """
        shown = batch.shown.input_ids
        allowed = maskable_words(batch.tokens, batch.prompts, batch.gt_phrases)
        withheld = allowed & (torch.rand(shown.shape, device=shown.device) < self.mask_prob)
        fate = torch.rand(shown.shape, device=shown.device)
        random_ids = torch.randint(self.vocabulary_size, shown.shape, device=shown.device)
        shown = shown.masked_fill(withheld & (fate < 0.8), _mask_token(tokenizer))
        shown = torch.where(withheld & (fate >= 0.8) & (fate < 0.9), random_ids, shown)
        return batch.showing(replace(batch.shown, input_ids=shown), withheld)

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """`loss_mlm`, of the words withheld."""
        withheld = run.batch.withheld
        return {"loss_mlm": self(run.words[withheld], run.batch.tokens.input_ids[withheld])}

    def logits(self, words: torch.Tensor) -> torch.Tensor:
        """Words (..., L) -> (..., V), in the precision of the head's parameters."""
        with without_autocast(words.device.type):
            return self.decoder(self.transform(words.to(self.decoder.weight.dtype)))

    def forward(self, words: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Weighted cross-entropy, averaged over the predicted words of all processes.

        Args:
            words: (n, L), the fused words to be told: the vocabulary is wide, so that only these
                go through the decoder. labels: (n,) int64, what they are.

        Returns:
            A scalar; 0 with a gradient for every parameter where nothing is predicted.
        """
        loss = F.cross_entropy(self.logits(words), labels, reduction="sum")
        # Not at least 1: of one word in N processes the mean is 1 / N. The smallest divisor keeps
        # processes without any at 0 instead of 0 / 0.
        count = mean_over_processes(loss.new_tensor(float(len(labels)))).clamp(min=1e-6)
        return self.weight * loss / count


def _mask_token(tokenizer: Tokenizer) -> int:
    if tokenizer.mask_token_id is None:
        raise ConfigError(
            "masked language modeling needs a mask token, and the tokenizer of the language "
            "backbone has none: set model.mlm_head to None, or, of a ClipLanguageBackbone, "
            "mask_token_id to an entry of its vocabulary that no text uses (49404)"
        )
    return tokenizer.mask_token_id


def maskable_words(
    tokens: TokenizedPrompts, prompts: Sequence[Prompt], gt_phrases: Sequence[torch.Tensor]
) -> torch.Tensor:
    """(B, T) bool: the words that the image can tell.

    Args:
        tokens: of `prompts`, from the tokenizer.
        gt_phrases: per image (G,) int64, the phrase of each box in its prompt.

    Raises:
        ValueError: the tokenizer does not say which tokens are words.
    """
    if tokens.own_words is None:
        raise ValueError(
            "masked language modeling needs tokens with own_words, which PromptTokenizer gives: "
            "use a language backbone that reads the whole prompt, or no mlm_head"
        )
    rows = []
    for words, prompt, phrases, phrase_words in zip(
        tokens.own_words, prompts, gt_phrases, tokens.positive_maps
    ):
        if prompt.kind == "detection":
            words = words & phrase_words[phrases].any(dim=0)
        elif prompt.kind != "grounding":  # a question has its own task, and so has a caption
            words = torch.zeros_like(words)
        rows.append(words)
    return torch.stack(rows)
