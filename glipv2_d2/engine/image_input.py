"""An image as the model's input."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import UsageError
from ..images import AnyImage, bgr_array
from ..modeling.tta import GLIPWithTTA

if TYPE_CHECKING:
    from .cloc_predictor import CLOCPredictor
    from .predictor import GroundingPredictor

__all__ = ["image_input"]


def image_input(
    predictor: GroundingPredictor | CLOCPredictor, image: AnyImage, name: str
) -> dict[str, Any]:
    """The image as the predictor's model takes it, without a prompt.

    Args:
        predictor: says the size; a model with test-time augmentation resizes by itself.
        image: in any form.
        name: for the messages.

    Raises:
        UsageError: an image of another kind, or one that is too narrow to be resized.
        ImageReadError, OSError: it cannot be read.
    """
    pixels = bgr_array(image, name)
    height, width = pixels.shape[:2]
    model = predictor.model
    for resize in getattr(model, "resizes", [predictor.resize]):
        transform = resize.get_transform(pixels)
        if min(transform.new_h, transform.new_w) < 1:
            raise UsageError(
                f"{name} of {height}x{width} pixels (height x width) is too narrow: nothing is "
                f"left of it when its long side has {resize.max_size}. Cut it into pieces."
            )
    resized = pixels if isinstance(model, GLIPWithTTA) else transform.apply_image(pixels)
    if model.input_format == "RGB":
        resized = resized[:, :, ::-1]
    tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    record = {"image": tensor, "height": height, "width": width}
    if isinstance(image, str | os.PathLike):
        record["file_name"] = str(image)
    return record
