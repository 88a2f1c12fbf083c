"""Exemplars: what is in some boxes, as a word of a prompt.

L_inter teaches region features before fusion and words to agree in a common space (GLIPv2, Section
3.2). So a region has a word there: `RegionWordContrast.word_like` goes back from the region's
projection to what the language backbone would give, and that takes the place of a name's words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

from ..errors import UsageError
from ..images import AnyImage, listed
from ..language.prompt import clean_name
from ..language.words import Exemplar
from ..modeling import GLIP
from ..modeling.boxes import to_inclusive
from ..modeling.contrast import RegionWordContrast, contrast_of

if TYPE_CHECKING:
    from .encoded_image import EncodedImage
    from .predictor import GroundingPredictor

__all__ = ["make_exemplar"]


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
        _regions(contrast, model, predictor.set_image(picture), own)
        for picture, own in zip(pictures, of_images)
    ]
    region = torch.cat(seen).mean(dim=0)
    word = contrast.word_like(region, _known_words(model, words))
    return Exemplar(clean_name(name), tuple(word.tolist()), text_weight)


def _regions(
    contrast: RegionWordContrast, model: GLIP, image: EncodedImage, boxes: Any
) -> torch.Tensor:
    """(n, D), the mean of the positions that each box would be learnt from."""
    features, ((height, width),) = image.encoded
    size = image.record["width"], image.record["height"]
    corners = _checked(boxes, *size)
    scale = corners.new_tensor([width / size[0], height / size[1]]).repeat(2)
    corners = to_inclusive((corners * scale).to(model.device))
    anchors = model.anchors(features)
    positions = contrast.embed_regions(features)[0]
    means = []
    for box, given in zip(corners, boxes):
        matched = model.losses.matcher(anchors, box[None]) == 0
        if not matched.any():
            raise UsageError(f"the box {given!r} is too small to be seen: give a larger one")
        means.append(positions[matched].mean(dim=0))
    return torch.stack(means)


def _checked(boxes: Any, width: int, height: int) -> torch.Tensor:
    """(n, 4) in pixels of the image."""
    try:
        corners = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    except (TypeError, ValueError, RuntimeError):
        corners = torch.empty(0, 4)
    x1, y1, x2, y2 = corners.unbind(dim=1)
    inside = (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height) & (x1 < x2) & (y1 < y2)
    if not len(corners) or not inside.all():
        raise UsageError(
            f"boxes are [[x1, y1, x2, y2], ...] in pixels, inside the image of {width}x{height}, "
            f"got {boxes!r:.80}"
        )
    return corners


def _known_words(model: GLIP, names: Sequence[str] | None) -> torch.Tensor:
    """(n, L), the words of names, LVIS's by default, as the language backbone gives them."""
    if names is None:
        names = [category["synonyms"][0] for category in LVIS_CATEGORIES]
    words = []
    for prompt in model.tokenizer.split(names, size=model.chunk_size or 40):
        tokens = model.tokenizer([prompt]).to(model.device)
        words.append(model.text_features(tokens).hidden[0][tokens.positive_maps[0].any(dim=0)])
    return torch.cat(words)
