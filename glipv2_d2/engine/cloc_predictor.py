"""Use a CLOC on images, boxes and words, without data sets or configs of one's own."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T

from ..checkpoint import fingerprint
from ..config import apply_overrides, get_config
from ..errors import PromptError, UsageError
from ..images import AnyImage, listed
from ..modeling import CLOC
from ..modeling.devices import resolve_device
from ..modeling.meta_arch.cloc import EncodedImages
from ..modeling.precision import inference_autocast
from .contrast_embedder import checked_boxes
from .image_input import image_input
from .loading import load_model
from .region_embedding import Regions, grid_boxes

__all__ = ["CLOCPredictor", "EncodedPicture"]

TEXTS_AT_ONCE = 256


class CLOCPredictor:
    """Embeds images, regions and texts in one space, and finds where a text is.

        predictor = CLOCPredictor.from_config("demo/scenes_cloc.py", "cloc.pth")
        names = predictor.embed_texts(["red star", "blue ring"])
        picture = predictor.set_image("photo.jpg")
        picture.embed_boxes([[40, 60, 90, 120]]) @ names.T  # what is in a box
        picture.locate(["red star"])                        # where it is
        predictor.embed_images(["photo.jpg"]) @ names.T     # what is in the image

    It is a `RegionEmbedder`.

    Args:
        model: a CLOC, on its device; put into eval mode.
        batch_size: images that are read and handed to the model together.
        precision: "fp32", "bf16" or, on CUDA, "fp16".

    Raises:
        UsageError: another model.
        ConfigError: a precision that the device does not have.
    """

    def __init__(self, model: CLOC, *, batch_size: int = 16, precision: str = "fp32"):
        if not isinstance(model, CLOC):
            raise UsageError(
                f"{type(model).__name__} is no CLOC: take GroundingPredictor for GLIP models"
            )
        inference_autocast(model.device, precision)  # refuses now
        self.model = model.eval()
        self.batch_size = batch_size
        self.precision = precision
        side = model.visual.image_size
        self.resize = T.ResizeShortestEdge([side, side], side)
        self.dim = model.embed_channels
        parts = [name for name, _ in model.named_children()]
        settings = [fingerprint(model, parts), side, precision]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]

    @classmethod
    def from_config(
        cls,
        config: str | Path,
        weights: str | Path,
        *,
        device: str = "auto",
        overrides: Sequence[str] = (),
        **options: Any,
    ) -> "CLOCPredictor":
        """Build a model from a LazyConfig and load its weights; see `GroundingPredictor`.

        Raises:
            ConfigError, CheckpointError: the config or the weights are missing or do not fit; or
                the device cannot be used.
            UsageError: the model is no CLOC.
        """
        device = resolve_device(device)
        cfg = apply_overrides(get_config(config), overrides)
        options = {"precision": cfg.get("inference", {}).get("precision", "fp32"), **options}
        model: Any = load_model(cfg.model, weights, device)
        return cls(model, **options)

    @torch.no_grad()
    def set_image(self, image: AnyImage) -> "EncodedPicture":
        """Encode an image once, to ask for many regions and texts.

        Raises:
            UsageError: an image of another kind.
            ImageReadError, OSError: it cannot be read.
        """
        record = image_input(self, image, "image")
        with inference_autocast(self.model.device, self.precision):
            return EncodedPicture(self, record, self.model.encode([record]))

    def embed_images(self, images: AnyImage | Iterable[AnyImage]) -> np.ndarray:
        """Images as a whole: (n, dim) float32 of unit length.

        Args, errors: see `GroundingPredictor.__call__`.
        """
        pictures = enumerate(listed(images))
        outputs = self._run(image_input(self, x, f"images[{i}]") for i, x in pictures)
        return np.stack([output["image_embedding"].cpu().numpy() for output in outputs])

    def embed_regions(
        self, images: Sequence[AnyImage], boxes: Sequence[np.ndarray] | None = None
    ) -> list[Regions]:
        """See `RegionEmbedder`; without boxes those of a grid."""
        inputs = [image_input(self, x, f"images[{i}]") for i, x in enumerate(images)]
        if boxes is None:
            corners = [grid_boxes(x["height"], x["width"]) for x in inputs]
        else:
            pairs = zip(boxes, inputs, strict=True)
            corners = [checked_boxes(b, x["height"], x["width"]).numpy() for b, x in pairs]
        outputs = self._run([{**x, "boxes": b} for x, b in zip(inputs, corners)])
        found = [output["region_embeddings"].cpu().numpy() for output in outputs]
        return [Regions(*of_image) for of_image in zip(corners, found)]

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See `RegionEmbedder`."""
        _check_texts(texts)
        parts = []
        with inference_autocast(self.model.device, self.precision):
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                parts.append(self.model.embed_texts(texts[start : start + TEXTS_AT_ONCE]))
        return torch.cat(parts).cpu().numpy()

    @torch.no_grad()
    def _run(self, inputs: Iterable[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        outputs, remaining = [], iter(inputs)
        with inference_autocast(self.model.device, self.precision):
            while batch := list(islice(remaining, self.batch_size)):
                outputs += self.model.inference(batch)
        return outputs


class EncodedPicture:
    """An image of `CLOCPredictor.set_image`: what is asked of it costs the Prompter alone.

    Attributes:
        embedding: of the image as a whole, (dim,) float32 of unit length.
    """

    def __init__(self, predictor: CLOCPredictor, record: dict[str, Any], encoded: EncodedImages):
        self._predictor = predictor
        self._encoded = encoded
        self._height, self._width = record["height"], record["width"]
        # From pixels of the picture to 0..1 of the padded square, as x0, y0, x1, y1.
        self._scale = predictor.model.scale_of(record)
        self.embedding = encoded.embeddings[0].cpu().numpy()

    @torch.no_grad()
    def embed_boxes(self, boxes: Any) -> np.ndarray:
        """What is in boxes: (n, dim) float32 of unit length.

        Args:
            boxes: [[x0, y0, x1, y1], ...] in pixels of the image.

        Raises:
            UsageError: a box that is empty or not inside the image.
        """
        model = self._predictor.model
        corners = checked_boxes(boxes, self._height, self._width).to(model.device) * self._scale
        rows = torch.zeros(len(corners), dtype=torch.int64, device=model.device)
        with inference_autocast(model.device, self._predictor.precision):
            return model.embed_boxes(self._encoded, rows, corners).cpu().numpy()

    @torch.no_grad()
    def locate(self, texts: Sequence[str]) -> np.ndarray:
        """Where each text is: boxes (n, 4) float32, x0, y0, x1, y1 in pixels of the image.

        Each text has one, whether it is in the image or not: a score is what `embed_boxes` of it
        and `embed_texts` give.

        Raises:
            ConfigError: the model has no box head.
            PromptError: a text that is empty or too long.
        """
        _check_texts(texts)
        model = self._predictor.model
        with inference_autocast(model.device, self._predictor.precision):
            (boxes,) = model.locate(self._encoded, texts) / self._scale
        x, y = boxes.unflatten(1, (2, 2)).sort(dim=1).values.unbind(dim=2)
        corners = torch.stack((x.clamp(0, self._width), y.clamp(0, self._height)), dim=2)
        return corners.flatten(1).cpu().numpy()


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not len(texts) or not all(text.strip() for text in texts):
        raise PromptError(f"give a list of texts, none of them empty, got {texts!r:.80}")
