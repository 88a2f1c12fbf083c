"""The task heads and the contrast of an exported GLIPv2."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..modeling import GLIP
from ..modeling.generation import Decoding, NextWords
from ..modeling.heads import CaptionHead, LanguageMaskHead, TaskHead, VqaHead
from .manifest import Manifest

__all__ = ["ExportedAnswers", "ExportedCaptions", "ExportedContrast", "ExportedMasks", "Graph"]

REGIONS_AT_ONCE = 128  # bounds the memory

Graph = Callable[..., tuple[torch.Tensor, ...]]


class ExportedMasks(LanguageMaskHead):
    """The mask head, whose layers are the graph "mask"."""

    mask_size = 0  # of an instance

    def __init__(self, graph: Graph, manifest: Manifest):
        TaskHead.__init__(self)  # no layers
        self.graph = graph
        self.mask_size = manifest.mask_size
        self.regions_at_once = REGIONS_AT_ONCE

    def logits(
        self,
        levels: Sequence[torch.Tensor],
        words: torch.Tensor,
        boxes: Sequence[torch.Tensor],
        tokens: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """See `LanguageMaskHead.logits`; of the levels those behind the predictions are fused."""
        regions = torch.cat(list(boxes))
        if not len(regions):
            return regions.new_zeros(0, *self.refined_shape)
        rows = torch.cat([torch.full_like(b[:, 0], i).long() for i, b in enumerate(boxes)])
        return self.graph(words, regions, rows, torch.cat(list(tokens)).bool(), *levels[4:])[0]


class ExportedAnswers(VqaHead):
    """The VQA head, whose layers are the graph "answer"."""

    def __init__(self, graph: Graph, manifest: Manifest):
        TaskHead.__init__(self)  # no layers
        self.graph = graph
        self.answers = manifest.answers
        self.ground_answer = manifest.ground_answer

    def logits(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See `VqaHead.logits`."""
        return self.graph(words, mask)[0]


class ExportedCaptions(CaptionHead):
    """The caption head, and all of the model that captions take, as graphs of these names."""

    def __init__(self, reading: Graph, caption: Graph, manifest: Manifest):
        TaskHead.__init__(self)  # no layers
        self.reading, self.caption = reading, caption
        self.decoding = Decoding(**manifest.decoding)

    def next_words(self, model: GLIP, features: list[torch.Tensor]) -> NextWords:
        """See `CaptionHead.next_words`."""
        return _NextWords(self.caption, self.reading(features[0])[0])


class ExportedContrast(nn.Module):
    """What a shortlist takes of the contrast: a `CommonSpace`, as graphs of these names."""

    def __init__(self, regions: Graph, names: Graph):
        super().__init__()
        self.regions, self.names = regions, names

    def embed_regions(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """See `CommonSpace`; the features of an export are its images."""
        return self.regions(features[0])[0]

    def embed_words(self, words: torch.Tensor) -> torch.Tensor:
        """See `CommonSpace`."""
        return self.names(words)[0]


class _NextWords:
    """See `NextWords`; each text is read anew for its next word, what it reads of its image not."""

    def __init__(self, graph: Graph, read: torch.Tensor):
        self._graph, self._read = graph, read
        self._texts = torch.empty(read.shape[1], 1, 0, dtype=torch.int64, device=read.device)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        self._texts = torch.cat((self._texts, ids), dim=2)
        return self._graph(self._read, self._texts)[0]

    def select(self, texts: torch.Tensor) -> None:
        self._texts = self._texts.flatten(0, 1)[texts].unflatten(0, (len(self._texts), -1))
