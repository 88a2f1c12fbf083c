"""The fixed prompts of a model without a language model, in the place of its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NoReturn

import torch
from torch import Tensor

from ..errors import PromptError
from .prompt import SEPARATOR, Prompt, clean_name, shorten
from .spans import Span
from .tokenized import TokenizedPrompts, Tokenizer, embedding_ids

__all__ = ["FrozenTokenizer"]


class FrozenTokenizer:
    """Knows the tokens of some prompts, and no other text.

    The id of a token is its row in the table of the words of all these prompts
    (`FrozenVocabulary`), so that one that stands in two prompts has two ids. A prompt may be asked
    for with all its phrases or with some, and each may stand for any class.

    Args:
        prompts: with different captions; none is a text that is written or read word by word.
        positive_maps: of each (K, T) bool, as wide as the prompt has tokens.

    Attributes:
        prompts: without the ids of tuned embeddings.
        first: of each prompt the id of its first token.

    Raises:
        PromptError: no prompts, two of one caption, one that is read word by word, or with an
            exemplar.
    """

    num_special_tokens = 0
    mask_token_id = None

    def __init__(self, prompts: Sequence[Prompt], positive_maps: Sequence[Tensor]):
        if not prompts:
            raise PromptError("the vocabulary is empty: give at least one class name")
        self.prompts = [replace(prompt, embedding_id=None) for prompt in prompts]
        self.positive_maps = list(positive_maps)
        lengths = [found.shape[1] for found in self.positive_maps]
        self.first = [sum(lengths[:i]) for i in range(len(lengths))]
        self.max_tokens, self.vocabulary_size = max(lengths), sum(lengths)
        self._numbers: dict[str, int] = {}
        for number, prompt in enumerate(self.prompts):
            _require_words(prompt)
            if prompt.causal:
                raise PromptError(
                    f"the caption {shorten(prompt.caption)!r} is no fixed prompt, because writing "
                    "it takes the language model: fix class names, or the phrases of a sentence"
                )
            if self._numbers.setdefault(prompt.caption, number) != number:
                raise PromptError(
                    f"two of the prompts read {shorten(prompt.caption)!r}, and a fixed vocabulary "
                    "can have but one of them: write two files"
                )

    @classmethod
    def of(cls, tokenizer: Tokenizer, prompts: Sequence[Prompt]) -> FrozenTokenizer:
        """Of prompts as another tokenizer reads them."""
        return cls(prompts, [tokenizer([prompt]).positive_maps[0].cpu() for prompt in prompts])

    @classmethod
    def from_json(cls, text: str) -> FrozenTokenizer:
        """What `to_json` has written."""
        prompts, maps = [], []
        for fields in json.loads(text):
            length, tokens = fields.pop("length"), fields.pop("tokens")
            prompts.append(Prompt(**fields))
            maps.append(torch.zeros(len(tokens), length, dtype=torch.bool))
            for row, own in zip(maps[-1], tokens):
                row[own] = True
        return cls(prompts, maps)

    def to_json(self) -> str:
        """The prompts' fields, their numbers of tokens, and of each phrase the tokens."""
        entries = [
            {**asdict(prompt), "length": rows.shape[1]}
            | {"tokens": [row.nonzero()[:, 0].tolist() for row in rows]}
            for prompt, rows in zip(self.prompts, self.positive_maps)
        ]
        return json.dumps(entries, ensure_ascii=False)

    @property
    def names(self) -> list[str]:
        """Of all phrases, in order."""
        return [name for prompt in self.prompts for name in prompt.names]

    def __call__(self, prompts: Sequence[Prompt]) -> TokenizedPrompts:
        """B prompts, padded to the longest of them.

        Raises:
            PromptError: no prompts, or one that is not of the vocabulary.
        """
        if not len(prompts):
            raise PromptError("the list of prompts is empty")
        for prompt in prompts:
            _require_words(prompt)
        numbers = [self._number(prompt.caption) for prompt in prompts]
        lengths = torch.tensor([self.positive_maps[i].shape[1] for i in numbers])
        columns = torch.arange(int(lengths.max()))
        mask = columns < lengths[:, None]
        ids = torch.tensor([self.first[i] for i in numbers])[:, None] + columns
        maps = []
        for prompt, number in zip(prompts, numbers):
            rows = self._rows(prompt, number)
            maps.append(torch.nn.functional.pad(rows, (0, len(columns) - rows.shape[1])))
        return TokenizedPrompts(
            torch.where(mask, ids, 0), mask, maps, embedding_ids=embedding_ids(prompts)
        )

    def split(
        self,
        names: Sequence[str],
        class_ids: Sequence[int] | None = None,
        size: int | None = None,
        separator: str = SEPARATOR,
    ) -> list[Prompt]:
        """Those of the prompts that ask for these names, in any order, with these phrases alone.

        Args:
            names, class_ids: see `split_vocabulary`.
            size, separator: are those that the prompts were made with.

        Raises:
            PromptError: a name that is not of the vocabulary, or is in it less often than here.
        """
        ids = list(range(len(names)) if class_ids is None else class_ids)
        if not len(names) or len(ids) != len(names):
            raise PromptError(f"{len(names)} class names and {len(ids)} class ids")
        wanted: dict[str, list[int]] = {}
        for name, class_id in zip(names, ids):
            wanted.setdefault(clean_name(name).casefold(), []).append(class_id)
        found = []
        for prompt in self.prompts:
            phrases = []
            for span, name in zip(prompt.spans, prompt.names):
                if left := wanted.get(name.casefold()):
                    phrases.append((span, name, left.pop(0)))
            if phrases:
                spans, own, classes = zip(*phrases)
                found.append(replace(prompt, spans=spans, names=own, class_ids=classes))
        for name in names:
            if wanted[clean_name(name).casefold()]:
                self._refuse(name)
        return found

    def num_tokens(self, caption: str) -> int:
        """See `Tokenizer`."""
        return self.positive_maps[self._number(caption)].shape[1]

    def offsets(self, caption: str) -> list[Span]:
        """Refuses: no text is read here."""
        self._refuse(caption)

    def name_tokens(self, name: str) -> int:
        """Refuses: no text is read here."""
        self._refuse(name)

    def fitting_prefix(self, caption: str, max_tokens: int | None = None) -> int:
        """Refuses: no text is read here."""
        self._refuse(caption)

    def _number(self, caption: str) -> int:
        number = self._numbers.get(caption)
        return self._refuse(caption) if number is None else number

    def _rows(self, prompt: Prompt, number: int) -> Tensor:
        """The positive map of a prompt's own phrases."""
        known = {spans: k for k, spans in enumerate(self.prompts[number].spans)}
        unknown = next((n for s, n in zip(prompt.spans, prompt.names) if s not in known), None)
        if unknown is not None:
            self._refuse(unknown)
        return self.positive_maps[number][[known[spans] for spans in prompt.spans]]

    def _refuse(self, text: str) -> NoReturn:
        """Raise the one error for what is not of the vocabulary."""
        raise PromptError(
            f"{shorten(text)!r} is not in the fixed vocabulary of this model, which has no "
            f"language model to read it: ask for {shorten(', '.join(self.names))}, or take the "
            "model that it was made from"
        )


def _require_words(prompt: Prompt) -> None:
    """An exemplar takes the place of words, and here these are fixed."""
    for exemplar in filter(None, prompt.exemplars):
        raise PromptError(
            f"the exemplar {exemplar.name!r} cannot be asked for by a fixed vocabulary: use the "
            "model that has the language backbone"
        )
