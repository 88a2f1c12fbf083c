"""Prompts to tokens, with the positive maps; nothing is ever truncated."""

from __future__ import annotations

import copy
import functools
import logging
import os
import re
from collections.abc import Sequence

import torch
from tokenizers import Encoding
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ..errors import PromptError, UsageError, printable
from .chunks import split_vocabulary
from .pretrained_names import resolve_pretrained
from .prompt import SEPARATOR, Prompt, shorten
from .spans import Span
from .tokenized import TokenizedPrompts
from .words import ClassNames

__all__ = ["PromptTokenizer"]

logger = logging.getLogger(__name__)

# A training on millions of captions meets new emoji for ever: so many are named.
UNKNOWN_WORDS_NAMED = 100
# Spaces that tokens bring where people write none: "a dog ' s t - shirt ."
_LOOSE = re.compile(r" ([.,!?;:)])| ?(['’]) ?(?=(?:s|t|re|ve|m|ll|d)\b)|(?<=\w) (-) (?=\w)")
# Entries that BERT's vocabulary has for later use.
_UNUSED = re.compile(r"\[unused\d+\]")


class PromptTokenizer:
    """Turns prompts into `TokenizedPrompts`; picklable, so it goes into data workers."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int = 256,
        mask_token_id: int | None = None,
    ):
        """
        Args:
            tokenizer: a fast Hugging Face tokenizer (the offsets come from it).
            max_tokens: the longest prompt in tokens, [CLS] and [SEP] included.
            mask_token_id: what stands for a masked word; None: the tokenizer's own mask token,
                where it has one (CLIP's has none).
        """
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise TypeError(
                f"PromptTokenizer needs a fast tokenizer (character offsets), got "
                f"{type(tokenizer).__name__}"
            )
        if not 3 <= max_tokens <= tokenizer.model_max_length:
            raise UsageError(
                f"max_tokens={max_tokens} must lie between 3 and the tokenizer's own limit of "
                f"{tokenizer.model_max_length}"
            )
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.pad_token_id = tokenizer.pad_token_id or 0
        self.mask_token_id = _mask_token_id(tokenizer, mask_token_id)
        # The Rust tokenizer itself: five times faster for one caption, and it does not start
        # threads, which would have to be switched off before data workers are forked. A copy,
        # because tokenizer.json may bring a truncation of its own.
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._read_special_tokens_as_text()
        self._name_tokens: dict[str, int] = {}
        self._told: set[str] = set()

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._read_special_tokens_as_text()  # the Rust tokenizer forgets it when it is pickled

    def _read_special_tokens_as_text(self) -> None:
        """A "[SEP]" or "<|endoftext|>" that somebody writes is text and ends nothing."""
        self._backend.encode_special_tokens = True

    @classmethod
    def from_pretrained(
        cls, name: str, max_tokens: int = 256, mask_token_id: int | None = None
    ) -> PromptTokenizer:
        """From `"minilm"`, a local folder or a hub name (see `resolve_pretrained`).

        Raises:
            OSError: the tokenizer can neither be read nor downloaded.
        """
        source = resolve_pretrained(name)
        try:
            tokenizer = copy.copy(_read_once(source, _stamps(source)))
        except (OSError, ValueError) as error:
            raise OSError(
                f"cannot load a tokenizer for {name!r}: {str(error).splitlines()[0]} "
                "Give a local folder with tokenizer.json, or 'minilm'"
            ) from error
        if type(tokenizer).__name__.startswith("CLIPTokenizer"):
            # Its limit of 77 is that of CLIP's position embeddings: ClipLanguageBackbone has more.
            tokenizer.model_max_length = max(tokenizer.model_max_length, max_tokens)
        return cls(tokenizer, max_tokens, mask_token_id)

    def encode(self, caption: str) -> Encoding:
        """`ids` and `offsets` of one caption, special tokens included, not truncated."""
        return self._backend.encode(caption)

    def offsets(self, caption: str) -> list[Span]:
        """The `[start, end)` characters of each token of a caption; empty for special tokens."""
        return self.encode(caption).offsets

    def unknown_words(self, caption: str) -> list[str]:
        """The words of a caption that the language model does not know, each as often as it is
        there: they all become the same token, [UNK] (every emoji, many CJK characters)."""
        encoding, unknown = self.encode(caption), self.tokenizer.unk_token_id
        pairs = zip(encoding.ids, encoding.offsets)
        return [caption[start:end] for i, (start, end) in pairs if i == unknown and start < end]

    def num_tokens(self, caption: str) -> int:
        """The tokens of a caption, [CLS] and [SEP] included."""
        return len(self.encode(caption).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones.

        `encode` makes the same tokens of it, where it would have written them so itself (never
        "kit", "##e" for a kite).
        """
        plain = str(
            self.tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
        neat = _LOOSE.sub(r"\1\2\3", plain).strip()
        return neat if self.encode(neat).ids == self.encode(plain).ids else plain.strip()

    @functools.cached_property
    def writable(self) -> Tensor:
        """(V,) bool, the tokens that a caption may have: no special, mask or unused ones."""
        names = self.tokenizer.convert_ids_to_tokens(list(range(self.vocabulary_size)))
        banned = {*self.tokenizer.all_special_ids, self.mask_token_id}
        return torch.tensor(
            [i not in banned and not _UNUSED.fullmatch(name) for i, name in enumerate(names)]
        )

    @property
    def num_special_tokens(self) -> int:
        """The tokens that every prompt has besides its words."""
        return self._backend.num_special_tokens_to_add(False)

    @property
    def vocabulary_size(self) -> int:
        """The number of distinct token ids."""
        return len(self.tokenizer)

    def name_tokens(self, name: str) -> int:
        """The tokens of a class name or separator alone, without special ones; cached."""
        count = self._name_tokens.get(name)
        if count is None:
            count = len(self._backend.encode(name, add_special_tokens=False).ids)
            self._name_tokens[name] = count
        return count

    def fitting_prefix(self, caption: str, max_tokens: int | None = None) -> int:
        """How many leading characters of a caption fit, cut between two words.

        Returns:
            `len(caption)` if all of it fits, 0 if not even its first word does.
        """
        limit = max_tokens or self.max_tokens
        encoding = self.encode(caption)
        if len(encoding.ids) <= limit:
            return len(caption)
        words = [
            (word, start, end)
            for word, (start, end) in zip(encoding.word_ids, encoding.offsets)
            if word is not None and start < end
        ]
        kept = limit - self.num_special_tokens
        # The word of the first token that is too much goes as a whole, and so does one that shares
        # a character with it (CLIP makes two words of the capital I with a dot).
        cut = next(start for word, start, _ in words if word == words[kept][0])
        ends = [end for _, _, end in words[:kept] if end <= cut]
        return ends[-1] if ends else 0

    def __call__(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """Tokenize B prompts, padded to the longest of them only.

        Raises:
            PromptTooLongError: a prompt with more than `max_tokens` tokens.
            PromptError: no prompts, or a phrase that has no token.
        """
        self._check_list(prompts)
        ids, offsets = zip(*map(self._ids_and_offsets, prompts))
        tokens = TokenizedPrompts.collate(prompts, ids, offsets, self.max_tokens, self.pad_token_id)
        for prompt, row in zip(prompts, ids):
            # CLIP's unknown token is its end token, too.
            if self.tokenizer.unk_token_id in row[1:-1]:
                self._warn_of_unknown(prompt.caption)
        # [UNK] has characters of its own, but cannot be guessed once it is masked.
        special = torch.isin(tokens.input_ids, torch.tensor(self.tokenizer.all_special_ids))
        assert tokens.own_words is not None  # `collate` gives them
        tokens.own_words &= ~special
        return tokens

    def _ids_and_offsets(self, prompt: Prompt) -> tuple[list[int], list[Span]]:
        """Of the tokens of a prompt, with one mask token in the place of a question's answer.

        Raises:
            PromptError: the tokenizer has no mask token.
        """
        answer = prompt.answer_span
        encoding = self.encode(prompt.caption if answer is None else prompt.caption[: answer[0]])
        ids, offsets = encoding.ids, encoding.offsets
        if answer is None:
            return ids, offsets
        if self.mask_token_id is None:
            raise PromptError(
                f"the question {shorten(prompt.caption)!r} leaves its answer open, and the "
                "tokenizer has no mask token to stand for it: leave the mark out, or name a token "
                "(of a ClipLanguageBackbone mask_token_id=49404)"
            )
        # Before the token that ends every text.
        return [*ids[:-1], self.mask_token_id, ids[-1]], [*offsets[:-1], answer, offsets[-1]]

    def _check_list(self, prompts: Sequence[Prompt]) -> None:
        if isinstance(prompts, Prompt):
            raise TypeError(f"{type(self).__name__} takes a list of prompts, got a single Prompt")
        if not len(prompts):
            raise PromptError("the list of prompts is empty")

    def _warn_of_unknown(self, text: str) -> None:
        """Name words of a text that are unknown; each word once."""
        unknown = self.unknown_words(text)
        new = list(dict.fromkeys(word for word in unknown if word not in self._told))
        if not new or len(self._told) >= UNKNOWN_WORDS_NAMED:
            return
        self._told.update(new)
        more = len(self._told) >= UNKNOWN_WORDS_NAMED
        logger.warning(
            "the language model does not know %s of %s: each is the token [UNK] to it, so that it "
            "cannot tell one from another, and what it finds for them means little. Use other "
            "words for them.%s",
            printable(", ".join(repr(word) for word in new)),
            printable(repr(shorten(text))),
            " Further unknown words are not named." if more else "",
        )

    def split(
        self,
        names: ClassNames,
        class_ids: Sequence[int] | None = None,
        size: int | None = None,
        separator: str = SEPARATOR,
    ) -> list[Prompt]:
        """A vocabulary as detection prompts that each fit; see `split_vocabulary`."""
        return split_vocabulary(self, names, class_ids, size, separator)


@functools.lru_cache(maxsize=8)
def _read_once(source: str, stamps: tuple) -> PreTrainedTokenizerBase:
    """A command asks for the same one for its model and for each of its data sets."""
    return AutoTokenizer.from_pretrained(source, use_fast=True)


def _stamps(source: str) -> tuple[tuple[str, int, int], ...]:
    """What tells that the files of a folder have changed; of a name there are none."""
    if not os.path.isdir(source):
        return ()
    files = [(entry.name, entry.stat()) for entry in os.scandir(source) if entry.is_file()]
    return tuple(sorted((name, found.st_mtime_ns, found.st_size) for name, found in files))


def _mask_token_id(tokenizer: PreTrainedTokenizerFast, wanted: int | None) -> int | None:
    own = tokenizer.special_tokens_map.get("mask_token")
    own_id = None if own is None else tokenizer.backend_tokenizer.token_to_id(str(own))
    if wanted is None:
        return own_id
    if not 0 <= wanted < len(tokenizer):
        raise UsageError(
            f"mask_token_id={wanted} is not in the vocabulary of {len(tokenizer)} entries"
        )
    if wanted != own_id and wanted in tokenizer.all_special_ids:
        raise UsageError(
            f"mask_token_id={wanted} is {tokenizer.convert_ids_to_tokens(wanted)!r}, which has a "
            "meaning of its own: take an entry that captions do not use"
        )
    return wanted
