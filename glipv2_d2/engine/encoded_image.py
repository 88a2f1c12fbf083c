"""An image that is encoded once and asked about any number of times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.structures import Instances

from ..errors import UsageError
from ..language.prompt import Prompt
from ..modeling.generation import Decoding
from ..modeling.meta_arch.inference import EncodedImages, outputs_of
from ..modeling.padding import by_padded_size
from ..modeling.precision import inference_autocast
from .asked import (
    Negatives,
    PromptLike,
    Request,
    to_answer,
    to_caption,
    to_detect,
    to_tell_presence,
)
from .results import Answer, Caption

if TYPE_CHECKING:
    from .predictor import GroundingPredictor

__all__ = ["EncodedImage", "ask_together", "encode_together"]


class EncodedImage:
    """An image that was encoded once, see `GroundingPredictor.set_image`.

    Args:
        predictor: its options count as they are when the image is asked; not so its weights.
        record: the model's input without "image".
        encoded: its pyramid.
    """

    def __init__(self, predictor: GroundingPredictor, record: dict, encoded: EncodedImages):
        self._predictor = predictor
        self.record = record
        self.encoded = encoded

    def predict(
        self,
        prompts: PromptLike,
        *,
        score_threshold: float | None = None,
        merge_iou: float | None = None,
        masks: bool = True,
        negatives: Negatives = (),
    ) -> Instances:
        """Detect: what the predictor called with this image and these prompts returns."""
        return self._ask(
            to_detect(self._predictor, prompts, 1, score_threshold, merge_iou, masks, negatives)
        )

    def presence(self, prompts: PromptLike) -> list[tuple[str, float]]:
        """Tell of each phrase asked how likely it is in the image at all, whatever boxes are found.

        Args:
            prompts: see `GroundingPredictor.__call__`.

        Raises:
            ConfigError: the model has no `presence_head`.
            PromptError: see `GroundingPredictor.__call__`; or a question, or a caption.
        """
        return self._ask(to_tell_presence(self._predictor, prompts))

    def answer(
        self, question: str | Prompt, *, score_threshold: float | None = None, masks: bool = True
    ) -> Answer:
        """What `GroundingPredictor.answer` returns for this image."""
        return self._ask(to_answer(self._predictor, question, 1, score_threshold, masks))

    def caption(
        self,
        beginning: str = "",
        *,
        decoding: Decoding | None = None,
        score_threshold: float | None = None,
        masks: bool = True,
    ) -> Caption:
        """What `GroundingPredictor.caption` returns for this image."""
        return self._ask(
            to_caption(self._predictor, beginning, 1, decoding, score_threshold, masks)
        )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image itself."""
        return self.record["height"], self.record["width"]

    @property
    def memory(self) -> int:
        """Bytes of the device's memory that it takes."""
        return sum(level.nbytes for level in self.encoded.features)

    def _ask(self, request: Request) -> Any:
        return ask_together([(self, request)])[0]


@torch.no_grad()
def encode_together(
    predictor: GroundingPredictor, inputs: Sequence[dict[str, Any]]
) -> list[EncodedImage]:
    """`GroundingPredictor.set_image` of several images: those of one padded size are one batch.

    Args:
        inputs: of `image_input`.

    Raises:
        UsageError: the predictor uses test-time augmentation.
    """
    model = predictor.glip
    if model is not predictor.model:
        raise UsageError(
            "set_image encodes an image in one size, and test-time augmentation shows it in "
            "many: call the predictor itself, or use one without augmentation"
        )
    stride = model.backbone.size_divisibility
    with inference_autocast(model.device, predictor.precision):
        encoded = by_padded_size(lambda group: model.encode(group).split(), stride, inputs)
    records = [{key: x[key] for key in x if key != "image"} for x in inputs]
    return [EncodedImage(predictor, record, image) for record, image in zip(records, encoded)]


@torch.no_grad()
def ask_together(asked: Sequence[tuple[EncodedImage, Request]]) -> list[Any]:
    """What each image, asked alone, would give; those of one padded size are one batch.

    Args:
        asked: images of one predictor, each with what is asked of it; one may be there twice.

    Raises:
        PromptError, ConfigError: see `EncodedImage`; then none of them is answered.
    """
    groups: dict[torch.Size, list[int]] = {}
    for index, (image, _) in enumerate(asked):
        groups.setdefault(image.encoded.features[0].shape, []).append(index)
    found: dict[int, Any] = {}
    for rows in groups.values():
        images = [asked[i][0] for i in rows]
        requests = [asked[i][1] for i in rows]
        predictor = images[0]._predictor
        inputs = [
            {**image.record, "prompt": request.prompts[0], **request.options}
            for image, request in zip(images, requests)
        ]
        with inference_autocast(predictor.glip.device, predictor.precision):
            outputs = outputs_of(predictor.glip, _batch(images), inputs)
        for i, request, output, given in zip(rows, requests, outputs, inputs, strict=True):
            found[i] = request.read(output, given)
    return [found[i] for i in range(len(asked))]


def _batch(images: Sequence[EncodedImage]) -> EncodedImages:
    encoded = [image.encoded for image in images]
    if len(encoded) == 1:
        return encoded[0]
    levels = zip(*(one.features for one in encoded))
    return EncodedImages([torch.cat(level) for level in levels], [one.sizes[0] for one in encoded])
