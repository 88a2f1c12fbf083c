"""Tuned prompts: what is learned about a task beside a model that stays as it is (Section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...errors import PromptError
from .features import TextFeatures

__all__ = ["PromptEmbeddings", "offsets_in"]

# The names of the parameters: no id can be that of another attribute of a module.
_DEFAULT, _OFFSETS = "default", "offsets/"


class PromptEmbeddings(nn.Module):
    """Learned offsets for the words of tuned prompts, by `Prompt.embedding_id`; none at first.

    They are added to what the language backbone makes of the prompt, before the words are fused
    with the image. Tuning the prompt's embedding P-hat itself, as the paper puts it ("One set of
    weights for all"), is the same parameterization, since the language backbone gives a constant;
    the official code has it in this form, too (`tunable_linear`).

    Offsets in a state dict that are not there yet are added, frozen: what is trained is decided
    before weights are loaded.

    Attributes:
        default: (n, L), added to prompts without an id, but captions that are written word by word;
            a prompt-tuned official GLIP comes with it. None: nothing is added to them.
    """

    place: torch.Tensor
    default: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        # Has the device and type of the model, while there are no offsets, too.
        self.register_buffer("place", torch.zeros(0), persistent=False)
        self.register_parameter(_DEFAULT, None)

    @property
    def ids(self) -> list[str]:
        """Those of all tuned prompts."""
        return [_id(name) for name in self._parameters if name.startswith(_OFFSETS)]

    def __getitem__(self, embedding_id: str) -> nn.Parameter:
        """The offsets of a prompt, (n, L).

        Raises:
            PromptError: there are none of this id.
        """
        own = self._parameters.get(_name(embedding_id))
        if own is None:
            known = ", ".join(map(repr, self.ids)) or "none"
            raise PromptError(
                f"the model has no tuned prompt {embedding_id!r} (it has: {known}): load its file "
                "with load_prompt, or weights that were saved with it"
            )
        return own

    def add(self, embedding_id: str, offsets: torch.Tensor, *, trained: bool = False) -> None:
        """Add the offsets (n, L) of a prompt of n tokens.

        Raises:
            PromptError: there are others of this id.
        """
        if embedding_id in self.ids:
            raise PromptError(f"the model has a tuned prompt {embedding_id!r} already")
        self._add(_name(embedding_id), offsets, trained)

    def forward(
        self, text: TextFeatures, embedding_ids: Sequence[str | None] | None
    ) -> TextFeatures:
        """Features of B prompts, with the offsets of those that have any.

        Args:
            text: as the language backbone gives it.
            embedding_ids: see `TokenizedPrompts`.

        Raises:
            PromptError: there are no offsets of an id, or they are of another number of tokens than
                the prompt.
        """
        trained = [p for p in self.parameters() if p.requires_grad and self.training]
        if embedding_ids is None and self.default is None and not trained:
            return text
        ids = [None] * len(text) if embedding_ids is None else embedding_ids
        causal = [False] * len(text) if text.causal is None else text.causal.tolist()
        nothing = text.hidden.new_zeros(0, text.hidden.shape[2])
        rows = [
            self._offsets(embedding_id, length, caption, nothing).to(nothing)
            for embedding_id, length, caption in zip(ids, text.mask.sum(1).tolist(), causal)
        ]
        # The last row makes it as wide as the features.
        offsets = pad_sequence([*rows, torch.zeros_like(text.hidden[0])], batch_first=True)[:-1]
        for parameter in trained:
            # DistributedDataParallel waits for the gradient of each, also of those that no prompt
            # of this batch has.
            offsets = offsets + 0 * parameter.sum()
        return replace(text, hidden=text.hidden + offsets, embedded=text.embedded + offsets)

    def _offsets(
        self, embedding_id: str | None, length: int, caption: bool, nothing: torch.Tensor
    ) -> torch.Tensor:
        """(n, L) of one prompt."""
        if embedding_id is None:
            return nothing if caption or self.default is None else self.default[:length]
        own = self[embedding_id]
        if len(own) != length:
            raise PromptError(
                f"the tuned prompt {embedding_id!r} has {len(own)} tokens, and the prompt that "
                f"names it has {length}: use the prompts that its file gives"
            )
        return own

    def _add(self, name: str, offsets: torch.Tensor, trained: bool) -> None:
        offsets = offsets.detach().to(self.place, copy=True)
        self.register_parameter(name, nn.Parameter(offsets, requires_grad=trained))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *others) -> None:
        for name, value in state_dict.items():
            own = name.removeprefix(prefix) if name.startswith(prefix) else ""
            if own.startswith((_DEFAULT, _OFFSETS)) and self._parameters.get(own) is None:
                self._add(own, value, trained=False)
        super()._load_from_state_dict(state_dict, prefix, *others)


def offsets_in(model: nn.Module, state: Mapping[str, torch.Tensor]) -> set[str]:
    """The names of a state dict, and of the model's own, that are offsets of tuned prompts: a file
    may have others than the model, or none."""
    prefixes = tuple(
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if isinstance(module, PromptEmbeddings)
    )
    return {name for name in {**state, **model.state_dict()} if name.startswith(prefixes)}


def _name(embedding_id: str) -> str:
    return _OFFSETS + embedding_id.replace(".", "%2E")  # no parameter has a dot in its name


def _id(name: str) -> str:
    return name.removeprefix(_OFFSETS).replace("%2E", ".")
