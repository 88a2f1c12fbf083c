"""An upload as pixels: a known format, and not too many of them."""

from __future__ import annotations

import io
from contextlib import ExitStack

import numpy as np
from PIL import Image

from ..errors import UserError
from ..images import image_to_array, reading_image
from .limits import MEGA, Limits

__all__ = ["FORMATS", "TooManyPixels", "read_upload"]

# Of Pillow's many decoders those of photos: none that runs a program (EPS) or reads other files.
Image.init()
FORMATS = sorted({"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"} & Image.OPEN.keys())


class TooManyPixels(UserError, ValueError):
    """An image that is refused by its header alone."""


def read_upload(data: bytes, limits: Limits) -> np.ndarray:
    """Decode an uploaded image.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageReadError: no image of `FORMATS`, or a damaged one.
        TooManyPixels: more than `limits.pixels`.
    """
    most = f"at most {limits.pixels / MEGA:g} megapixels are allowed: make the image smaller"
    with reading_image("the upload"), ExitStack() as opened:
        try:
            image = opened.enter_context(Image.open(io.BytesIO(data), formats=FORMATS))
        except Image.DecompressionBombError:  # Pillow's limit comes before ours
            raise TooManyPixels(most) from None
        width, height = image.size
        if width * height > limits.pixels:
            raise TooManyPixels(f"{width} x {height} pixels are too many, {most}")
        return image_to_array(image)
