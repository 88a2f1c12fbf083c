"""Parallel class encoding: each class is read on its own and becomes one vector.

In a usual detection prompt the names are one text, "cat. dog. red kite": the words of a class
attend to those of the others, and their order matters. In the parallel encoding of the official
GLIP (`GLIPKNOW.PARALLEL_LANGUAGE_INPUT`; Shen et al. 2022, K-LITE, arXiv 2204.09222) each class
is a text of its own, its name or "name: definition", and one vector of that text (of its first
token, or the mean) stands in the place of its words. A class's vector then depends on nothing but
the class. The tower stays as it is: a tower with fusion runs its text layers on these vectors,
which know no order either.
"""

from __future__ import annotations

from typing import Any

import torch

from ...errors import ConfigError
from ...language.class_knowledge import read_definitions
from ...language.class_tokenizer import ParallelClassTokenizer
from ...language.tokenized import TokenizedPrompts
from .bert import BertLanguageBackbone
from .build import LANGUAGE_BACKBONE_REGISTRY
from .features import TextFeatures

__all__ = ["ParallelClassBert"]

POOLING = ("first", "mean")
# Texts that go through the encoder at once; bounds the memory of a large vocabulary.
TEXTS_AT_ONCE = 128


@LANGUAGE_BACKBONE_REGISTRY.register()
class ParallelClassBert(BertLanguageBackbone):
    """`BertLanguageBackbone` with one vector for each class of a prompt.

    Same parameters and names, so that it takes the weights of any GLIP. Those of a GLIP that was
    not trained so give it little sense: the official weights for it are
    `glip_a_tiny_o365_knowledge`, a GLIP-T (A), whose tower has no fusion. It knows classes only,
    no captions.

    Args:
        pooling: the vector of a text: `"first"`, of its first token ([CLS]); or `"mean"`, of
            all its tokens, [CLS] and [SEP] included. The official
            `GLIPKNOW.LAN_FEATURE_AGG_TYPE`.
        definitions: file with what is told about classes (see `read_definitions`); None:
            names alone.
        options: of `BertLanguageBackbone`.

    Raises:
        ConfigError: see `BertLanguageBackbone` and `read_definitions`.
    """

    tokenizer_class = ParallelClassTokenizer
    tokenizer: ParallelClassTokenizer
    can_be_causal = False

    def __init__(self, *, pooling: str = "first", definitions: str | None = None, **options: Any):
        if pooling not in POOLING:
            raise ConfigError(f"pooling must be one of {POOLING}, got {pooling!r}")
        super().__init__(**options)
        told = None if definitions is None else read_definitions(definitions)
        self.pooling = pooling
        self.tokenizer = ParallelClassTokenizer(
            self.tokenizer.tokenizer, self.tokenizer.max_tokens, told
        )

    def forward(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Classes (B, T) -> TextFeatures (B, T, L); every class is encoded once."""
        classes, where = tokens.input_ids[tokens.mask].unique(return_inverse=True)
        parts = [self._encode_classes(ids) for ids in classes.split(TEXTS_AT_ONCE)]
        hidden, embedded = (torch.cat(pooled)[where] for pooled in zip(*parts))

        def place(vectors: torch.Tensor) -> torch.Tensor:
            placed = vectors.new_zeros((*tokens.mask.shape, vectors.shape[-1]))
            return placed.masked_scatter(tokens.mask[..., None], vectors)

        return TextFeatures(hidden=place(hidden), embedded=place(embedded), mask=tokens.mask)

    def _encode_classes(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class ids (K,) -> one vector of `hidden` and of `embedded` for each, (K, L)."""
        words, mask = (part.to(ids.device) for part in self.tokenizer.words(ids.tolist()))
        features = super().forward(TokenizedPrompts(words, mask, []))
        return self._pool(features.hidden, mask), self._pool(features.embedded, mask)

    def _pool(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "first":
            return features[:, 0]
        weights = mask[..., None].to(features.dtype)
        return (features * weights).sum(1) / weights.sum(1)
