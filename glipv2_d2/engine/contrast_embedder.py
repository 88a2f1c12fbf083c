"""Regions and texts in the space of GLIPv2's contrast: features before fusion (Section 3.2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances

from ..checkpoint import fingerprint
from ..checkpoint.names import DETECTOR_PARTS
from ..errors import PromptError, UsageError
from ..images import AnyImage
from ..language.noun_phrases import noun_phrase_extractor
from ..language.prompt import Prompt
from ..modeling import GLIP
from ..modeling.boxes import to_inclusive
from ..modeling.contrast import contrast_of
from .asked import to_detect
from .encoded_image import EncodedImage, ask_together, encode_together
from .image_input import image_input
from .region_embedding import Regions, grid_boxes
from .results import best_of_each_phrase

if TYPE_CHECKING:
    from .predictor import GroundingPredictor

__all__ = ["ContrastEmbedder", "Grounded", "checked_boxes", "pooled_positions"]


class Grounded(NamedTuple):
    """A box, [x1, y1, x2, y2] in pixels of the image, and its score."""

    box: list[float]
    score: float


class ContrastEmbedder:
    """GLIPv2 as a `RegionEmbedder`.

    A region is the mean of the positions that its box would be learned from, a text the mean of the
    words of its first phrase, which is what it is about: "a red star" of "a red star next to a
    ring". Before fusion a region knows nothing of its neighbors, so that the rest of the text would
    only blur it; `ground` asks about all of it.

    Args:
        predictor: its model has a contrast.
        prompt: whatever this names is detected, and these boxes are the regions of an image; empty:
            `grid_boxes` are.

    Raises:
        ConfigError: the model was trained without L_inter.
        PromptError: see `GroundingPredictor.__call__`.
    """

    def __init__(self, predictor: GroundingPredictor, prompt: str = ""):
        self._predictor = predictor
        model = predictor.glip
        self._contrast = contrast_of(model, "region search is done")
        self._request = to_detect(predictor, prompt, 1, None, None, False) if prompt else None
        self.dim = self._contrast.region_projection.out_features
        settings = [
            fingerprint(model, [*DETECTOR_PARTS, "contrast"]),
            *(predictor.min_size, predictor.max_size, predictor.precision),
            *(prompt, predictor.score_threshold, predictor.merge_iou, predictor.phrases),
        ]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    @torch.no_grad()
    def embed_regions(
        self, images: Sequence[AnyImage | EncodedImage], boxes: Sequence[np.ndarray] | None = None
    ) -> list[Regions]:
        """See `RegionEmbedder`; an image may be one of `GroundingPredictor.set_image`, too."""
        inputs = [
            image_input(self._predictor, x, f"images[{i}]")
            for i, x in enumerate(images)
            if not isinstance(x, EncodedImage)
        ]
        anew = iter(encode_together(self._predictor, inputs))
        encoded = [x if isinstance(x, EncodedImage) else next(anew) for x in images]
        scores: list[Any] = [None] * len(encoded)
        corners: list[torch.Tensor]
        if boxes is not None:
            pairs = zip(boxes, encoded, strict=True)
            corners = [checked_boxes(of_image, *image.size) for of_image, image in pairs]
        elif self._request is not None:
            found = ask_together([(image, self._request) for image in encoded])
            corners = [instances.pred_boxes.tensor for instances in found]
            scores = [instances.scores.numpy() for instances in found]
        else:
            corners = [torch.from_numpy(grid_boxes(*image.size)) for image in encoded]
        regions = []
        for image, of_image, score in zip(encoded, corners, scores):
            means, _ = pooled_positions(self._predictor.glip, image, of_image)
            unit = F.normalize(means, dim=1).cpu().numpy()
            regions.append(Regions(of_image.numpy(), unit, score))
        return regions

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See `RegionEmbedder`."""
        model = self._predictor.glip
        vectors = []
        for text in texts:
            name = self.read(text).names[0]
            tokens = model.tokenizer([Prompt.from_caption(name, [[(0, len(name))]])])
            features = model.text_features(tokens.to(model.device))
            embedded = self._contrast.embed_words(features.hidden)
            vectors.append(embedded[0, tokens.positive_maps[0][0]].mean(dim=0))
        return F.normalize(torch.stack(vectors), dim=1).cpu().numpy()

    def read(self, text: str) -> Prompt:
        """A text with its phrases: those in [brackets], else its noun phrases, else all of it.

        Raises:
            PromptError: it is empty, or its brackets are.
        """
        if "[" in text or "]" in text:
            return Prompt.parse(text)
        text = text.strip()
        if not text:
            raise PromptError('the text is empty: give what to look for, as "a red star"')
        spans = noun_phrase_extractor(self._predictor.phrases)(text) or [(0, len(text))]
        return Prompt.from_caption(text, [[span] for span in spans])

    def ground(self, images: Sequence[AnyImage], text: str) -> list[Grounded | None]:
        """Find in each image what a text is about, with the rest of the text in mind.

        The fused model is asked, which reads each phrase in its context and sees the whole image.

        Returns:
            Of each image the best box of the first phrase; its score is the product of the best
            scores of all phrases. None: a phrase has no box.
        """
        found = self._predictor(
            images, [self.read(text)] * len(images), score_threshold=0, merge_iou=1, masks=False
        )
        return [_grounded(instances, len(self.read(text).names)) for instances in found]


def _grounded(instances: Instances, phrases: int) -> Grounded | None:
    best = best_of_each_phrase(instances)
    if len(best) < phrases:
        return None
    return Grounded(best.pred_boxes.tensor[0].tolist(), float(best.scores.prod()))


def pooled_positions(
    model: GLIP, image: EncodedImage, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the positions that each box would be learned from.

    Args:
        model: has a contrast.
        boxes: (n, 4), xyxy in pixels of the image.

    Returns:
        (n, D), which are shorter than 1; and (n,) bool: False for boxes too small to have such a
        position, which get the nearest one of the finest level.
    """
    features, ((height, width),) = image.encoded
    contrast = contrast_of(model, "regions are embedded")
    positions = contrast.embed_regions(features)[0]
    if not len(boxes):
        return positions.new_zeros(0, positions.shape[1]), boxes.new_zeros(0, dtype=torch.bool)
    scale = boxes.new_tensor([width / image.size[1], height / image.size[0]]).repeat(2)
    corners = to_inclusive((boxes * scale).to(model.device))
    anchors = model.anchors(features)
    members = (model.losses.matcher.claims(anchors, corners) >= 0).T
    seen = members.any(dim=1)
    finest, own = (Boxes(x).get_centers() for x in (anchors[0], corners[~seen]))
    members[~seen, torch.cdist(own, finest).argmin(dim=1)] = True
    weights = members.to(positions.dtype)
    return weights @ positions / weights.sum(dim=1, keepdim=True), seen


def checked_boxes(boxes: Any, height: int, width: int) -> torch.Tensor:
    """(n, 4) float32, xyxy in pixels of an image of this size.

    Raises:
        UsageError: they are in another form, none, empty or not inside the image.
    """
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
