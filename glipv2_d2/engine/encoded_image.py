"""An image that is encoded once and asked about any number of times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from detectron2.structures import Instances

from ..language.prompt import Prompt
from ..modeling.generation import Decoding
from ..modeling.meta_arch.inference import EncodedImages, outputs_of
from ..modeling.precision import inference_autocast
from .asked import Negatives, PromptLike, Request, to_answer, to_caption, to_detect
from .results import Answer, Caption

if TYPE_CHECKING:
    from .predictor import GroundingPredictor

__all__ = ["EncodedImage"]


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

    @torch.no_grad()
    def _ask(self, request: Request) -> Any:
        model = self._predictor.glip
        inputs = {**self.record, "prompt": request.prompts[0], **request.options}
        with inference_autocast(model.device, self._predictor.precision):
            (output,) = outputs_of(model, self.encoded, [inputs])
        return request.read(output, inputs)
