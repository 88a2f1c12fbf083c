"""Photos are read; what is none, or too large, is refused before it is decoded."""

import io

import numpy as np
import pytest
from PIL import Image

from glipv2_d2.errors import ImageReadError
from glipv2_d2.serve.limits import Limits
from glipv2_d2.serve.uploads import TooManyPixels, read_upload
from tests.support.served import bomb

LIMITS = Limits(pixels=10_000)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(format, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_pixels_come_as_bgr(format):
    assert np.array_equal(read_upload(encoded(format), LIMITS), PIXELS[:, :, ::-1])


def test_a_photo_that_was_taken_sideways_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_upload(encoded("JPEG", exif=exif), LIMITS).shape == (60, 40, 3)


@pytest.mark.parametrize(
    ("size", "what"),
    [
        ((101, 100), "101 x 100 pixels are too many, "),
        ((20_000, 15_000), ""),  # more than Pillow itself opens
        ((200_000, 200_000), ""),
    ],
)
def test_too_many_pixels_are_refused_by_the_header(size, what):
    with pytest.raises(TooManyPixels, match=f"^{what}at most 0.01 megapixels are allowed"):
        read_upload(bomb(*size), LIMITS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'the upload' is not an image of a known format, or is empty"),
        (b"a text file", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # no Ghostscript
        (b"P6 2 2 255\n" + bytes(12), "not an image"),
        (encoded("PNG")[:-400], "'the upload' cannot be read"),
    ],
)
def test_what_is_no_photo(data, message):
    with pytest.raises(ImageReadError, match=message):
        read_upload(data, LIMITS)
