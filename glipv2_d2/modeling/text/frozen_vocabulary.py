"""Fixed prompts in place of a language model: their words are a table ("prompt, then detect").

What a text is to GLIP before it meets an image depends on the text alone, so that it can be
computed once and stored (as YOLO-World does, arXiv 2401.17270). What the fusion makes of it depends
on the image and is computed as ever.
"""

from __future__ import annotations

import torch
from torch import nn

from ...language.frozen_tokenizer import FrozenTokenizer
from ...language.tokenized import TokenizedPrompts
from ..weights import WEIGHTS_REGISTRY
from .build import LANGUAGE_BACKBONE_REGISTRY
from .features import TextFeatures

__all__ = ["FrozenVocabulary"]


class _OfFile:
    """The tokenizer of a file of weights, as `build_tokenizer` asks for it."""

    @staticmethod
    def from_pretrained(model: str, max_tokens: int | None = None) -> FrozenTokenizer:
        return WEIGHTS_REGISTRY.get("frozen_tokenizer")(model)


@LANGUAGE_BACKBONE_REGISTRY.register()
class FrozenVocabulary(nn.Module):
    """The words of fixed prompts: what a model detects with that has no language model.

    Args:
        model: the file of weights with this vocabulary, or its tokenizer. The words themselves are
            zeros until weights are loaded.
        channels: L.
        frozen: the words are not trained.
        max_tokens: of the longest prompt; here for the configs of data loaders, not read.

    Attributes:
        words: (tokens of all prompts, L), what the neck reads of them.
        vocabulary: the tokenizer as bytes, so that every file of weights says what it can be asked.
    """

    tokenizer_class = _OfFile
    pretrained = None
    can_be_causal = False
    vocabulary: torch.Tensor

    def __init__(
        self,
        *,
        model: str | FrozenTokenizer,
        channels: int,
        frozen: bool = False,
        max_tokens: int | None = None,
    ):
        super().__init__()
        if isinstance(model, str):
            model = _OfFile.from_pretrained(model)
        self.tokenizer = model
        self.out_channels = channels
        self.words = nn.Parameter(torch.zeros(self.tokenizer.vocabulary_size, channels))
        self.words.requires_grad_(not frozen)
        stored = torch.frombuffer(bytearray(self.tokenizer.to_json().encode()), dtype=torch.uint8)
        self.register_buffer("vocabulary", stored)

    def forward(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Tokens (B, T) -> TextFeatures (B, T, L)."""
        words = self.words[tokens.input_ids] * tokens.mask[..., None]
        return TextFeatures(words, words, tokens.mask)
