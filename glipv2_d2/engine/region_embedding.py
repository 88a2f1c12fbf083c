"""What region search asks of a model: regions and texts as vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ..images import AnyImage

__all__ = ["RegionEmbedder", "Regions", "grid_boxes"]

# The image's side divided by that of a box, for each size of `grid_boxes`.
GRID = (1, 2, 4, 8)


class Regions(NamedTuple):
    """n regions of an image.

    Attributes:
        boxes: (n, 4) float32, xyxy in pixels of the image.
        embeddings: (n, dim) float32, of unit length.
        scores: (n,) float32, of the detector; None: the boxes were not detected.
    """

    boxes: np.ndarray
    embeddings: np.ndarray
    scores: np.ndarray | None = None


class RegionEmbedder(Protocol):
    """Embeds regions and texts in one space, where the cosine says how well they fit.

    Attributes:
        dim: length of a vector.
        fingerprint: of the weights and of all settings that a region depends on. Vectors of
            different fingerprints are not compared.
    """

    dim: int
    fingerprint: str

    def embed_regions(
        self, images: Sequence[AnyImage], boxes: Sequence[np.ndarray] | None = None
    ) -> list[Regions]:
        """The regions of each image.

        Args:
            images: as `GroundingPredictor` takes them; in one batch.
            boxes: of each image (n, 4), xyxy in its pixels; None: those of the embedder, which it
                detects, or a grid (`grid_boxes`).

        Raises:
            UsageError: a box that is empty or not inside its image.
            ImageReadError, OSError: an image cannot be read.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) float32 of unit length, of what each text is about.

        Raises:
            PromptError: a text that is empty, or too long for the model.
        """
        ...


def grid_boxes(height: int, width: int) -> np.ndarray:
    """Boxes all over an image in several sizes, half a box apart: (284, 4) float32, xyxy.

    Their sides are the image's divided by 1, 2, 4 and 8.
    """
    corners = []
    for parts in GRID:
        y, x = np.mgrid[: 2 * parts - 1, : 2 * parts - 1].reshape(2, -1) / (2 * parts)
        corners.append(np.stack([x, y, x + 1 / parts, y + 1 / parts], axis=1))
    return (np.concatenate(corners) * [width, height, width, height]).astype(np.float32)
