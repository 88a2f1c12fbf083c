"""Each prompt is encoded once: a bounded cache of text features for inference."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ...language.tokenized import TokenizedPrompts
from .features import TextFeatures

__all__ = ["TextFeatureCache"]

# For the bookkeeping of all caches, some microseconds each: with one of its own a cache, and so the
# model, could be neither copied nor pickled.
_LOCK = threading.Lock()


class TextFeatureCache:
    """Least-recently-used text features of single prompts, emptied when the encoder changes.

    Not a module: it holds no state of the model's. Optimizer steps bump the parameters' version
    counters; swaps through `.data` (EMA, weight interpolation) do not, so that one element of every
    parameter is compared, too. Several threads may encode at once.

    Args:
        encoder: the language backbone.
        capacity: number of prompts kept.
    """

    def __init__(self, encoder: nn.Module, capacity: int = 256):
        self._encoder = encoder
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self._fingerprint: Hashable = None

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        with _LOCK:
            self._entries.clear()

    def encode(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Features of B tokenized prompts; only those not met before go through the encoder."""
        self._drop_if_encoder_changed()
        keys = self._keys(tokens)
        with _LOCK:
            found = {key: self._entries[key] for key in keys if key in self._entries}
        # One prompt asked for several images of a batch is encoded once.
        missing = {key: i for i, key in enumerate(keys) if key not in found}
        if missing:
            found.update(self._encode_missing(tokens, keys, list(missing.values())))
        with _LOCK:
            for key in keys:
                self._entries[key] = found[key]
                self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        # The longest prompt of the batch is as long as `tokens.mask` is wide.
        hidden, embedded = (
            pad_sequence(list(rows), batch_first=True) for rows in zip(*(found[k] for k in keys))
        )
        return TextFeatures(hidden, embedded, tokens.mask, tokens.causal, tokens.seen_by_image)

    def _encode_missing(
        self, tokens: TokenizedPrompts, keys: list[Hashable], rows: list[int]
    ) -> dict:
        longest = int(tokens.mask[rows].sum(dim=1).max())
        features = self._encoder(
            TokenizedPrompts(
                input_ids=tokens.input_ids[rows, :longest],
                mask=tokens.mask[rows, :longest],
                positive_maps=[tokens.positive_maps[i] for i in rows],
                causal=None if tokens.causal is None else tokens.causal[rows],
            )
        )
        lengths = tokens.mask[rows].sum(dim=1).tolist()
        return {
            # Detached: a graph that is kept would be walked by every later backward pass.
            keys[row]: (features.hidden[i, :n].detach(), features.embedded[i, :n].detach())
            for i, (row, n) in enumerate(zip(rows, lengths))
        }

    def _keys(self, tokens: TokenizedPrompts) -> list[Hashable]:
        device = tokens.input_ids.device
        precision = (
            torch.get_autocast_dtype(device.type)
            if torch.is_autocast_enabled(device.type)
            else None
        )
        lengths = tokens.mask.sum(dim=1).tolist()
        ids = tokens.input_ids.tolist()
        causal = [False] * len(ids) if tokens.causal is None else tokens.causal.tolist()
        return [
            (tuple(row[:n]), of_row, precision, device)
            for row, n, of_row in zip(ids, lengths, causal)
        ]

    def _drop_if_encoder_changed(self) -> None:
        parameters = list(self._encoder.parameters())
        if not parameters:  # it is a file
            return
        # The last element: the first one of an embedding table belongs to the never trained [PAD].
        samples = torch.stack([p.detach().reshape(-1)[-1].float() for p in parameters])
        fingerprint = (
            tuple((p.data_ptr(), p._version) for p in parameters),
            tuple(samples.tolist()),
        )
        with _LOCK:
            if fingerprint != self._fingerprint:
                self._entries.clear()
                self._fingerprint = fingerprint
