"""What is computed of a prompt once: bounded caches for inference."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...language.tokenized import TokenizedPrompts
from .features import TextFeatures

__all__ = ["ParameterCache", "TextFeatureCache", "precision_and_device"]

# For the bookkeeping of all caches, some microseconds each: with one of its own a cache, and so the
# model, could be neither copied nor pickled.
_LOCK = threading.Lock()


class ParameterCache:
    """Least-recently-used results of some modules, emptied when one of them changes.

    Not a module: it holds no state of the model's. Optimizer steps bump the parameters' version
    counters; swaps through `.data` (EMA, weight interpolation) do not, so that one element of every
    parameter is compared, too. Several threads may use it at once.

    Args:
        modules: what the results depend on, besides their keys.
        capacity: number of results kept.
    """

    def __init__(self, *modules: nn.Module, capacity: int):
        self._modules = modules
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._fingerprint: Hashable = None

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        with _LOCK:
            self._entries.clear()

    def get(self, keys: Sequence[Hashable], make: Callable[[list[int]], Sequence[Any]]) -> list:
        """The result of each key.

        Args:
            keys: one may be there twice.
            make: of the indices of keys that were not met before, their results.
        """
        fingerprint = self._drop_if_modules_changed()
        with _LOCK:
            found = {key: self._entries[key] for key in keys if key in self._entries}
        missing = {key: i for i, key in enumerate(keys) if key not in found}
        if missing:
            found.update(zip(missing, make(list(missing.values())), strict=True))
        with _LOCK:
            # Of modules that have changed since, as another thread has noticed, nothing is kept.
            for key in keys if fingerprint == self._fingerprint else ():
                self._entries[key] = found[key]
                self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return [found[key] for key in keys]

    def _drop_if_modules_changed(self) -> Hashable:
        """What the modules are known by now."""
        parameters = [p for module in self._modules for p in module.parameters()]
        if not parameters:  # it is a file
            return None
        # The last element: the first one of an embedding table belongs to the never trained [PAD].
        # One kernel: the slices are views.
        samples = torch.cat([p.detach().reshape(-1)[-1:] for p in parameters])
        fingerprint = (
            tuple((p.data_ptr(), p._version) for p in parameters),
            tuple(samples.tolist()),
        )
        with _LOCK:
            if fingerprint != self._fingerprint:
                self._entries.clear()
                self._fingerprint = fingerprint
        return fingerprint


class TextFeatureCache(ParameterCache):
    """The text features of single prompts.

    Args:
        encoder: the language backbone.
        capacity: number of prompts kept.
    """

    def __init__(self, encoder: nn.Module, capacity: int = 256):
        super().__init__(encoder, capacity=capacity)
        self._encoder = encoder

    def encode(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Features of B tokenized prompts; only those not met before go through the encoder."""
        lengths = tokens.mask.sum(dim=1).tolist()
        ids = tokens.input_ids.tolist()
        causal = [False] * len(ids) if tokens.causal is None else tokens.causal.tolist()
        setting = precision_and_device(tokens.input_ids.device)
        # One prompt asked for several images of a batch is encoded once.
        keys = [(tuple(row[:n]), of_row, *setting) for row, n, of_row in zip(ids, lengths, causal)]
        found = self.get(keys, lambda rows: self._encode(tokens, rows))
        # The longest prompt of the batch is as long as `tokens.mask` is wide.
        hidden, embedded = (pad_sequence(list(rows), batch_first=True) for rows in zip(*found))
        return TextFeatures(hidden, embedded, tokens.mask, tokens.causal, tokens.seen_by_image)

    def _encode(
        self, tokens: TokenizedPrompts, rows: list[int]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        lengths = tokens.mask[rows].sum(dim=1).tolist()
        longest = max(lengths)
        features = self._encoder(
            TokenizedPrompts(
                input_ids=tokens.input_ids[rows, :longest],
                mask=tokens.mask[rows, :longest],
                positive_maps=[tokens.positive_maps[i] for i in rows],
                causal=None if tokens.causal is None else tokens.causal[rows],
            )
        )
        # Detached: a graph that is kept would be walked by every later backward pass.
        return [
            (features.hidden[i, :n].detach(), features.embedded[i, :n].detach())
            for i, n in enumerate(lengths)
        ]


def precision_and_device(device: torch.device) -> tuple[torch.dtype | None, torch.device]:
    """What a result depends on besides its arguments: autocast's precision, None without; and the
    device."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if enabled else None, device
