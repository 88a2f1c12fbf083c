"""Exemplars: what is in some boxes, as a word of a prompt.

L_inter teaches region features before fusion and words to agree in a common space (GLIPv2, Section
3.2). So a region has a word there: `RegionWordContrast.word_like` goes back from the region's
projection to what the language backbone would give, and that takes the place of a name's words.
It brings the boxes; they are scored in the common space itself (`modeling/exemplar_scores.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

from ..errors import UsageError
from ..images import AnyImage, listed
from ..language.prompt import clean_name
from ..language.words import Exemplar
from ..modeling import GLIP
from ..modeling.contrast import contrast_of
from .contrast_embedder import checked_boxes, pooled_positions

if TYPE_CHECKING:
    from .encoded_image import EncodedImage
    from .predictor import GroundingPredictor

__all__ = ["LVIS_NAMES", "make_exemplar"]

LVIS_NAMES = tuple(category["synonyms"][0] for category in LVIS_CATEGORIES)


@torch.no_grad()
def make_exemplar(
    predictor: GroundingPredictor,
    images: AnyImage | Sequence[AnyImage],
    boxes: Any,
    name: str,
    text_weight: float,
    words: Sequence[str] | None,
) -> Exemplar:
    """See `GroundingPredictor.exemplar`."""
    model = predictor.glip
    contrast = contrast_of(model, "exemplars are asked")
    pictures = listed(images)
    of_images = boxes if len(pictures) > 1 else [boxes]
    if len(of_images) != len(pictures):
        raise UsageError(
            f"boxes of {len(of_images)} images are given for {len(pictures)} images: give a list "
            "of boxes for each"
        )
    seen = [
        _regions(model, predictor.set_image(picture), own)
        for picture, own in zip(pictures, of_images)
    ]
    region = torch.cat(seen).mean(dim=0)
    names = LVIS_NAMES if words is None else tuple(words)
    if not names:
        raise UsageError("words is empty: give names that the model knows, or none for LVIS's")
    word = contrast.word_like(region, _known_words(model, names))
    unit = F.normalize(region, dim=0)
    return Exemplar(
        clean_name(name), tuple(word.tolist()), text_weight, tuple(unit.tolist()), names
    )


def _regions(model: GLIP, image: EncodedImage, boxes: Any) -> torch.Tensor:
    """(n, D), the mean of the positions that each box would be learned from."""
    corners = checked_boxes(boxes, *image.size)
    means, seen = pooled_positions(model, image, corners)
    for box, is_seen in zip(corners.tolist(), seen.tolist()):
        if not is_seen:
            raise UsageError(f"the box {box!r} is too small to be seen: give a larger one")
    return means


def _known_words(model: GLIP, names: Sequence[str]) -> torch.Tensor:
    """(n, L), the words of names as the language backbone gives them."""
    words = []
    for prompt in model.tokenizer.split(names, size=model.chunk_size or 40):
        tokens = model.tokenizer([prompt]).to(model.device)
        words.append(model.text_features(tokens).hidden[0][tokens.positive_maps[0].any(dim=0)])
    return torch.cat(words)
