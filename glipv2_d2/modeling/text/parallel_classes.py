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

import logging
from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerFast

from ...errors import ConfigError, PromptError
from ...language.prompt import SEPARATOR, Prompt
from ...language.tokenized import TokenizedPrompts
from ...language.tokenizer import PromptTokenizer
from .bert import BertLanguageBackbone
from .build import LANGUAGE_BACKBONE_REGISTRY
from .definitions import read_definitions
from .features import TextFeatures

__all__ = ["ParallelClassBert", "ParallelClassTokenizer"]

logger = logging.getLogger(__name__)

POOLING = ("first", "mean")
# Texts that go through the encoder at once; bounds the memory of a large vocabulary.
TEXTS_AT_ONCE = 128


class ParallelClassTokenizer(PromptTokenizer):
    """A tokenizer whose tokens are whole classes: T is the number of classes of a prompt.

    Every new text of a class gets the next id, which only this object can turn back into words
    (`words`). `max_tokens` is the limit of each text; there is none for a prompt.

    Attributes:
        definitions: class name -> the text that is read instead of it.
        mask_token_id: None; a class cannot be guessed from its own missing words.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        max_tokens: int = 256,
        definitions: Mapping[str, str] | None = None,
    ):
        super().__init__(tokenizer, max_tokens)
        self.mask_token_id = None
        self.definitions = dict(definitions or {})
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []

    def __call__(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """B prompts, padded to the one with the most classes.

        Raises:
            PromptError: no prompts, or one that is no list of class names.
        """
        if isinstance(prompts, Prompt):
            raise TypeError("ParallelClassTokenizer takes a list of prompts, got a single Prompt")
        if not len(prompts):
            raise PromptError("the list of prompts is empty")
        # A class may be a part of several phrases, so that its place in the text identifies it.
        rows = [list(dict.fromkeys(s for phrase in p.spans for s in phrase)) for p in prompts]
        size = (len(prompts), max(map(len, rows)))
        input_ids = torch.zeros(size, dtype=torch.int64)
        mask = torch.zeros(size, dtype=torch.bool)
        maps = []
        for i, (prompt, spans) in enumerate(zip(prompts, rows)):
            _check_kind(prompt)
            texts = [prompt.caption[start:end] for start, end in spans]
            input_ids[i, : len(spans)] = torch.tensor([self._id(text) for text in texts])
            mask[i, : len(spans)] = True
            own = [[span in phrase for span in spans] for phrase in prompt.spans]
            maps.append(torch.zeros(len(prompt), size[1], dtype=torch.bool))
            maps[-1][:, : len(spans)] = torch.tensor(own)
        return TokenizedPrompts(input_ids, mask, maps)

    def split(
        self,
        names: Sequence[str],
        class_ids: Sequence[int] | None = None,
        size: int | None = None,
        separator: str = SEPARATOR,
    ) -> list[Prompt]:
        """A vocabulary as prompts of at most `size` names; None: all of them in one prompt.

        Raises:
            PromptError: no names.
        """
        if not len(names):
            raise PromptError("the vocabulary is empty: give at least one class name")
        return Prompt.split(names, len(names) if size is None else size, class_ids, separator)

    def words(self, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The words of classes by their ids: token ids (K, W) and mask (K, W) bool."""
        encoded = [self._encode_text(self._texts[i]) for i in ids]
        longest = max(map(len, encoded))
        words = torch.full((len(encoded), longest), self.pad_token_id, dtype=torch.int64)
        mask = torch.zeros((len(encoded), longest), dtype=torch.bool)
        for row, found in enumerate(encoded):
            words[row, : len(found)] = torch.tensor(found)
            mask[row, : len(found)] = True
        return words, mask

    def _id(self, name: str) -> int:
        text = self.definitions.get(name, name)
        if text not in self._ids:
            if not self.name_tokens(text):
                raise PromptError(
                    f"the class name {name!r} has no token: the tokenizer removes all of its "
                    "characters; name it with other words"
                )
            count = self.num_tokens(text)
            if count > self.max_tokens:
                logger.warning(
                    "The text of the class %r has %d tokens and is cut to %d.",
                    name, count, self.max_tokens,
                )  # fmt: skip
            self._warn_of_unknown(text, self.unknown_words(text))
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]

    def _encode_text(self, text: str) -> list[int]:
        ids = self.encode(text).ids
        if len(ids) <= self.max_tokens:
            return ids
        return [*ids[: self.max_tokens - 1], ids[-1]]  # as the official code: [SEP] stays


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

    def __init__(self, *, pooling: str = "first", definitions: str | None = None, **options):
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


def _check_kind(prompt: Prompt) -> None:
    if prompt.kind != "detection":
        raise PromptError(
            f"the parallel class encoding reads lists of class names, and "
            f"{prompt.caption[:60]!r} is a caption: set model.language_backbone.name="
            "BertLanguageBackbone for captions"
        )
