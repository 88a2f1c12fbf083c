"""Captioning: the next word from the fused words (GLIPv2, Section 3.3 and Appendix D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import ConfigError
from ...language.prompt import Prompt
from ..generation import Decoding, FusedWords, NextWords, Written, write_captions
from ..precision import at_least_float32, without_autocast
from ..processes import mean_over_processes
from .task_head import TrainingPass, WritingHead

if TYPE_CHECKING:
    from ..meta_arch.glip import GLIP

__all__ = ["CaptionHead"]


class CaptionHead(WritingHead):
    """Predicts each next word of a caption: unidirectional language modeling.

    As BERT's head of masked words: `transform` (linear, GELU, LayerNorm), then the product with the
    language backbone's own word embedding and a bias for each word.

    Args:
        text_channels: L, that of the word embedding.
        vocabulary_size: V, of the tokenizer.
        weight: factor of the loss.
        decoding: see `WritingHead`; None: `Decoding()`.
    """

    def __init__(
        self,
        *,
        text_channels: int,
        vocabulary_size: int,
        weight: float = 1.0,
        decoding: Decoding | None = None,
    ):
        super().__init__()
        self.weight = weight
        self.decoding = decoding or Decoding()
        self.transform = nn.Sequential(
            nn.Linear(text_channels, text_channels), nn.GELU(), nn.LayerNorm(text_channels)
        )
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def check(self, model: GLIP) -> None:
        """See `TaskHead.check`: the words can be read one by one, see the image, and are compared
        with those of the language backbone."""
        backbone: Any = model.language_backbone
        if not getattr(backbone, "can_be_causal", False):
            raise ConfigError(
                f"a {type(backbone).__name__} cannot write captions, because it cannot read a text "
                "word by word: use a BertLanguageBackbone with a BERT or RoBERTa, or a "
                "ClipLanguageBackbone, or set model.caption_head to None"
            )
        if not hasattr(model.neck, "read_images"):
            raise ConfigError(
                f"a model with the neck {type(model.neck).__name__} cannot write captions, because "
                "its words do not see the image: use a VLTower, or set model.caption_head to None"
            )
        embedding = backbone.word_embedding
        size = len(self.bias), self.transform[0].in_features
        if tuple(embedding.shape) != size:
            raise ConfigError(
                f"model.caption_head has vocabulary_size {size[0]} and text_channels {size[1]}, "
                f"and the word embedding of the language backbone is {tuple(embedding.shape)}: set "
                "them to these"
            )

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """`loss_caption`, of the inputs whose prompt is a caption."""
        rows = [i for i, prompt in enumerate(run.batch.prompts) if prompt.kind == "caption"]
        ids, mask = run.batch.tokens.input_ids[rows], run.text.mask[rows]
        # Each word but the last tells the one after it, up to the token that ends the text.
        told = mask[:, 1:]
        words, labels = run.words[rows][:, :-1][told], ids[:, 1:][told]
        assert run.word_embedding is not None  # see `check`
        return {"loss_caption": self(words, labels, run.word_embedding)}

    def forward(
        self, words: torch.Tensor, labels: torch.Tensor, embedding: torch.Tensor
    ) -> torch.Tensor:
        """Weighted cross-entropy, averaged over the words of all processes.

        Args:
            words: (n, L), fused. labels: (n,) int64, the word after each of them.
            embedding: see `logits`.

        Returns:
            A scalar; 0 with a gradient for every parameter where there is no caption.
        """
        loss = F.cross_entropy(self.logits(words, embedding), labels, reduction="sum")
        # Not at least 1: of one word in N processes the mean is 1 / N.
        count = mean_over_processes(loss.new_tensor(float(len(labels)))).clamp(min=1e-6)
        return self.weight * loss / count

    def next_words(self, model: GLIP, features: list[torch.Tensor]) -> NextWords:
        """What tells the next words of captions of B images; see `write_captions`."""
        return FusedWords(model, features)

    def write(
        self,
        model: GLIP,
        features: list[torch.Tensor],
        prompts: Sequence[Prompt],
        decoding: Decoding,
    ) -> list[Written]:
        """See `WritingHead.write`."""
        return write_captions(model, features, prompts, decoding)

    def logits(self, words: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Words (..., L) -> scores of the next word (..., V), in float32 at least.

        Args:
            embedding: (V, L), the language backbone's `word_embedding`.
        """
        with without_autocast(words.device.type):
            words = self.transform(words.to(self.bias.dtype))
            return at_least_float32(F.linear(words, embedding.to(self.bias.dtype), self.bias))
