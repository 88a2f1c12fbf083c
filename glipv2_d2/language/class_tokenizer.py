"""Whole classes as tokens, for the parallel class encoding."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from ..errors import PromptError
from .prompt import SEPARATOR, Prompt
from .tokenized import TokenizedPrompts, embedding_ids, exemplars
from .tokenizer import PromptTokenizer
from .words import ClassNames, words_of_classes

__all__ = ["ParallelClassTokenizer"]

logger = logging.getLogger(__name__)


class ParallelClassTokenizer(PromptTokenizer):
    """A tokenizer whose tokens are whole classes: T is the number of classes of a prompt.

    The id of a class is a hash of its text, the same in every thread and process; an object that
    has tokenized it turns it back into words (`words`). `max_tokens` is the limit of each text;
    there is none for a prompt.

    Attributes:
        definitions: class name -> the text that is read instead of it.
        mask_token_id: None; a class cannot be guessed from its own missing words.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int = 256,
        definitions: Mapping[str, str] | None = None,
    ):
        super().__init__(tokenizer, max_tokens)
        self.mask_token_id = None
        self.definitions = dict(definitions or {})
        self._texts: dict[int, str] = {}

    def __call__(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """B prompts, padded to the one with the most classes.

        Raises:
            PromptError: no prompts, or one that is no list of class names.
        """
        self._check_list(prompts)
        # A class may be a part of several phrases, so that its place in the text identifies it.
        rows = [list(dict.fromkeys(s for phrase in p.spans for s in phrase)) for p in prompts]
        size = (len(prompts), max(map(len, rows)))
        input_ids = torch.zeros(size, dtype=torch.int64)
        mask = torch.zeros(size, dtype=torch.bool)
        maps = []
        for i, (prompt, spans) in enumerate(zip(prompts, rows)):
            if prompt.kind != "detection":
                raise PromptError(
                    f"the parallel class encoding reads lists of class names, and "
                    f"{prompt.caption[:60]!r} is a "
                    f"{'question' if prompt.kind == 'question' else 'caption'}: set "
                    "model.language_backbone.name=BertLanguageBackbone for captions and questions"
                )
            texts = [prompt.caption[start:end] for start, end in spans]
            input_ids[i, : len(spans)] = torch.tensor([self._id(text) for text in texts])
            mask[i, : len(spans)] = True
            own = [[span in phrase for span in spans] for phrase in prompt.spans]
            maps.append(torch.zeros(len(prompt), size[1], dtype=torch.bool))
            maps[-1][:, : len(spans)] = torch.tensor(own)
        return TokenizedPrompts(
            input_ids,
            mask,
            maps,
            embedding_ids=embedding_ids(prompts),
            exemplars=exemplars(prompts),
        )

    def split(
        self,
        names: ClassNames,
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
        size = len(words_of_classes(names)[0]) if size is None else size
        return Prompt.split(names, size, class_ids, separator)

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
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "big") >> 1  # int64
        if number not in self._texts:
            self._check_text(name, text)
            self._texts[number] = text
        return number

    def _check_text(self, name: str, text: str) -> None:
        if not self.name_tokens(text):
            raise PromptError(
                f"the class name {name!r} has no token: the tokenizer removes all of its "
                "characters; name it with other words"
            )
        count = self.num_tokens(text)
        if count > self.max_tokens:
            logger.warning(
                "the text of the class %r has %d tokens and is cut to %d",
                name, count, self.max_tokens,
            )  # fmt: skip
        self._warn_of_unknown(text)

    def _encode_text(self, text: str) -> list[int]:
        ids = self.encode(text).ids
        if len(ids) <= self.max_tokens:
            return ids
        return [*ids[: self.max_tokens - 1], ids[-1]]  # as the official code: [SEP] stays
