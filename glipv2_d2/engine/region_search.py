"""Search the regions of a collection by a text or by an example."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.utils.registry import locate

from ..config import get_config
from ..errors import DataError, UsageError, UserError
from ..images import AnyImage
from ..modeling import CLOC
from ..search.store import Match, RegionStore
from .cloc_predictor import CLOCPredictor
from .contrast_embedder import ContrastEmbedder
from .encoded_image import EncodedImage
from .predictor import GroundingPredictor
from .region_embedding import RegionEmbedder

__all__ = ["RERANKED", "RegionSearch", "ranked", "region_embedder"]

_log = logging.getLogger(__name__)
# Images that the fused model looks at, where a text has several phrases.
RERANKED = 20


def region_embedder(
    made_by: Mapping[str, Any], *, device: str = "auto", batch_size: int = 1
) -> RegionEmbedder:
    """Build what embeds the regions of an index: a CLOC, or a GLIPv2 with its contrast.

    Args:
        made_by: "config" and "weights", see `GroundingPredictor.from_config`; "overrides" of the
            config; "prompt", see `ContrastEmbedder`.
        device, batch_size: see `GroundingPredictor`.

    Raises:
        ConfigError, CheckpointError: see `GroundingPredictor.from_config`; or the model has nothing
            that embeds regions.
        PromptError: see `GroundingPredictor.__call__`.
        UsageError: a prompt for a CLOC, which detects nothing.
    """
    config, weights, prompt = made_by["config"], made_by["weights"], made_by["prompt"]
    options: Any = {
        "device": device,
        "batch_size": batch_size,
        "overrides": made_by["overrides"],
    }
    kind = get_config(config).model.get("_target_")
    if (locate(kind) if isinstance(kind, str) else kind) is CLOC:
        if prompt:
            raise UsageError("a CLOC detects nothing: leave out --prompt, its regions are a grid")
        return CLOCPredictor.from_config(config, weights, **options)
    return ContrastEmbedder(GroundingPredictor.from_config(config, weights, **options), prompt)


class RegionSearch:
    """An index, and the model that it was made with.

        with RegionStore("index") as store:
            matches = RegionSearch.of(store).text("a red star next to a ring", top=10)

    Raises:
        DataError: the index was made by another embedder.
    """

    def __init__(self, store: RegionStore, embedder: RegionEmbedder):
        if store.fingerprint != embedder.fingerprint:
            raise DataError(
                f"the index '{store.folder}' was made with {store.made_by['weights']} as it was "
                "then, and vectors of other weights or settings cannot be compared with its own: "
                "take those, or make the index anew"
            )
        self.store = store
        self._embedder = embedder

    @classmethod
    def of(cls, store: RegionStore, *, device: str = "auto") -> RegionSearch:
        """With the embedder that the index says; errors: see `region_embedder`, too."""
        return cls(store, region_embedder(store.made_by, device=device))

    def text(self, text: str, top: int, rerank: int | None = None) -> list[Match]:
        """The regions that fit a text, best first.

        The vectors know of a text what it is about, its first phrase. Where it has several the
        fused model then looks at the best images and asks about all of it: so "a red star next to a
        ring" finds red stars that are.

        Args:
            top: most results.
            rerank: see `images_to_rerank`.

        Raises:
            PromptError: see `RegionEmbedder.embed_texts`.
        """
        count = self.images_to_rerank(text, top, rerank)
        if not count:
            return self.nearest(text, top)
        return ranked((self.look(match, text) for match in self.images(text, count)), top)

    def images_to_rerank(self, text: str, top: int, asked: int | None) -> int:
        """At how many images the fused model is to look, of which each gives one result.

        Args:
            asked: so many; None: `RERANKED`, or `top` if that is more, where the text has several
                phrases.

        Returns:
            0 for a model that has no fusion.
        """
        if not isinstance(self._embedder, ContrastEmbedder):
            return 0
        if asked is None:
            return max(RERANKED, top) if len(self._embedder.read(text).names) > 1 else 0
        return asked

    def nearest(self, text: str, top: int) -> list[Match]:
        """The regions whose vectors are most like that of a text, best first."""
        return self.store.search(self._embedder.embed_texts([text]), top)[0]

    def images(self, text: str, count: int) -> list[Match]:
        """`nearest`, of each image the best alone."""
        best: dict[str, Match] = {}
        for match in self.nearest(text, 4 * count):
            best.setdefault(match.file, match)
        return list(best.values())[:count]

    def look(self, match: Match, text: str) -> Match | None:
        """What the fused model finds in the image of a region; see `ContrastEmbedder.ground`.

        Returns:
            The region with the box and score that are found. None: there are none, or the image
            cannot be read, which is logged.
        """
        assert isinstance(self._embedder, ContrastEmbedder)
        try:
            (found,) = self._embedder.ground([match.file], text)
        except (UserError, OSError) as error:
            _log.warning("%s cannot be looked at: %s", match.file, error)
            return None
        return found and match._replace(box=found.box, score=found.score)

    def example(
        self, image: AnyImage | EncodedImage, box: Sequence[float], top: int
    ) -> list[Match]:
        """The regions that are like a box of an image, best first.

        Args:
            image: for GLIPv2's contrast also one of `GroundingPredictor.set_image`.

        Raises:
            UsageError, ImageReadError, OSError: see `RegionEmbedder.embed_regions`.
        """
        images: list[Any] = [image]
        (regions,) = self._embedder.embed_regions(images, [np.array([box])])
        return self.store.search(regions.embeddings, top)[0]


def ranked(found: Iterable[Match | None], top: int) -> list[Match]:
    """The best of `RegionSearch.look`."""
    return sorted((m for m in found if m is not None), key=lambda match: -match.score)[:top]
