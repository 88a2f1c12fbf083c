"""Exemplars scored where they were seen: in the common space of regions and words, before fusion.

A word that is made of a region (`RegionWordContrast.word_like`) loses much on its way through the
fused layers, which know words that are read. So the boxes come from there, and the scores from the
softmax that L_inter was trained with (GLIPv2, Eq. 5): the log-odds that a region goes with the
exemplar and with none of the words that the model knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..language.positive_map import ClassMap
from ..language.words import Exemplar
from .blocks import block_rows
from .contrast import RegionWordContrast
from .heads import GroundingOutput
from .precision import without_autocast

if TYPE_CHECKING:
    from .meta_arch import GLIP
    from .meta_arch.inference import EncodedImages, Pair

__all__ = ["ExemplarScores"]

NAMES_AT_ONCE = 40  # that the language backbone reads in one prompt


class ExemplarScores:
    """The scores of exemplars in some images; what several exemplars share is computed once.

    Args:
        model: one without the contrast's projections, as an export is, leaves all as it is: the
            exemplars are the words that they were made into.
        images: encoded.
    """

    def __init__(self, model: GLIP, images: EncodedImages):
        self._model, self._images = model, images
        contrast = getattr(model, "contrast", None)
        self._contrast = contrast if isinstance(contrast, RegionWordContrast) else None
        self._regions: torch.Tensor | None = None
        self._of_words: dict[tuple[int, tuple[str, ...]], torch.Tensor] = {}

    def apply(
        self, output: GroundingOutput, pairs: Sequence[Pair], class_maps: Sequence[ClassMap]
    ) -> GroundingOutput:
        """The head's output with these scores for the tokens of each exemplar.

        Args:
            pairs: images with their prompts, of the rows of `output`; `class_maps` of these.
        """
        changed: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        for row, (pair, class_map) in enumerate(zip(pairs, class_maps)):
            for phrase, exemplar in enumerate(pair.prompt.exemplars):
                if exemplar is None or not exemplar.region or self._contrast is None:
                    continue
                tokens = class_map.phrase_weights[phrase] > 0
                read = output.logits[row][:, tokens].mean(dim=1)
                seen = self._log_odds(pair.image, exemplar, self._contrast).to(read.dtype)
                changed.append((row, tokens, torch.lerp(seen, read, exemplar.text_weight)))
        if not changed:
            return output
        logits = output.logits.clone()
        for row, tokens, values in changed:
            logits[row, :, tokens] = values[:, None]
        return output._replace(logits=logits)

    def _log_odds(
        self, image: int, exemplar: Exemplar, contrast: RegionWordContrast
    ) -> torch.Tensor:
        """(N,), of the positions of an image."""
        if self._regions is None:
            self._regions = contrast.embed_regions(self._images.features)
        regions = self._regions[image]
        with without_autocast(regions.device.type):
            scale = contrast.log_temperature.neg().exp()
            key = image, exemplar.words
            if key not in self._of_words:
                self._of_words[key] = self._log_sum(regions * scale, exemplar.words)
            return regions @ regions.new_tensor(exemplar.region) * scale - self._of_words[key]

    def _log_sum(self, regions: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """(N,), the logarithm of the summed exponentials over the names."""
        model: Any = self._model
        prompts = model.tokenizer.split(names, size=model.chunk_size or NAMES_AT_ONCE)
        words = model.name_embeddings(model, prompts)
        step = block_rows(regions[None], len(words))
        return torch.cat([(part @ words.T).logsumexp(dim=1) for part in regions.split(step)])
