"""Images of any mode as 8-bit BGR or RGB arrays; one reader for mapper, predictor and tools."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from .errors import (
    ImageReadError,
    MissingImageError,
    UsageError,
    UserError,
)

AnyImage = str | os.PathLike | np.ndarray | Image.Image | bytes | IO[bytes]
FORMATS = ("BGR", "RGB")
_KINDS = (
    "a path or URL, the bytes of a file, a file open for reading bytes, a PIL image, or an "
    "(H, W, 3) uint8 array in BGR order"
)
# Pillow's modes with more than 8 bits in a channel.
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
# What Pillow raises for a damaged EXIF block, which does not spoil the pixels.
BAD_EXIF = (
    OSError, SyntaxError, ValueError, KeyError, TypeError, ZeroDivisionError, struct.error,
)  # fmt: skip


def readable_suffixes() -> tuple[str, ...]:
    """The endings of the files that `read_image` reads, lower-case: those of Pillow's
    formats, and of the plugins that are registered (HEIC)."""
    suffixes = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, name in suffixes.items() if _is_decoded(name)))


def _is_decoded(format: str) -> bool:
    """Whether Pillow decodes it: MPO is opened as JPEG, of MPEG only the header is read, and a
    stub waits for a decoder."""
    if format == "MPO":
        return True
    if format == "MPEG" or format not in Image.OPEN:
        return False
    factory = Image.OPEN[format][0]
    return not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))


def read_image(
    source: str | os.PathLike | bytes | IO[bytes] | Image.Image, format: str = "BGR"
) -> np.ndarray:
    """Read an image.

    Gray, palette, CMYK and 1-bit images become color; the EXIF orientation is applied; alpha is
    laid over white (what viewers show) and not just dropped; 16-bit gray is scaled by its full
    range instead of clipped to white; of an animation the first frame is taken.

    Args:
        source: a path, or any address that Detectron2's PathManager opens (`http://`, ...); the
            bytes of a file, or the file opened for reading bytes; or a PIL image.
        format: `"BGR"` (Detectron2's default) or `"RGB"`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingImageError: no such file.
        ImageReadError: the file is damaged, empty or of an unknown format.
        UsageError: something of another type.
    """
    with reading_image(_name_of(source)), ExitStack() as opened:
        if isinstance(source, Image.Image):
            return image_to_array(source, format)
        file: Any = source
        if isinstance(source, str | os.PathLike):
            file = opened.enter_context(PathManager.open(os.fspath(source), "rb"))
        elif isinstance(source, bytes | bytearray | memoryview):
            file = io.BytesIO(source)
        elif isinstance(source, io.TextIOBase):
            raise UsageError('an image file is open as text: open it for bytes, open(path, "rb")')
        elif not hasattr(source, "read"):
            raise UsageError(f"an image is {_KINDS}, got {type(source).__name__}")
        return image_to_array(opened.enter_context(Image.open(file)), format)


def bgr_array(image: AnyImage, name: str = "the image") -> np.ndarray:
    """An image in any of the forms in which people have one; what could be misread is refused.

    Args:
        image: an (H, W, 3) uint8 array in BGR order, or what `read_image` takes.
        name: for the messages.

    Returns:
        (H, W, 3) uint8, BGR, with a pixel at least.

    Raises:
        UsageError: a tensor, an array of another kind, no pixels, or no image at all; else as
            `read_image`.
    """
    if isinstance(image, torch.Tensor):
        raise UsageError(
            f"{name} is a tensor, which does not say whether it is RGB or BGR, nor in which range; "
            f"give {_KINDS}. Of an RGB tensor (3, H, W) of 0..255 that is "
            "tensor.flip(0).permute(1, 2, 0).byte().cpu().numpy()"
        )
    if not isinstance(image, np.ndarray):
        image = read_image(image)
    elif image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(
            f"{name} as an array must be (H, W, 3) uint8 in BGR order, got shape {image.shape} of "
            f"{image.dtype} (a path, an open file or a PIL image is converted from any mode)"
        )
    if image.size == 0:
        raise UsageError(f"{name} has no pixels: its shape is {image.shape}")
    return image


def listed(images: AnyImage | Iterable[AnyImage]) -> list[Any]:
    """One image or several (in any iterable) as a list.

    Raises:
        UsageError: there is none.
    """
    alone = (str, os.PathLike, np.ndarray, torch.Tensor, Image.Image, bytes, bytearray, memoryview)
    # An open file is an iterable, of lines.
    if isinstance(images, alone) or hasattr(images, "read") or not isinstance(images, Iterable):
        return [images]
    images = list(images)
    if not images:
        raise UsageError("no image is given: `images` is empty")
    return images


def _name_of(source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", None) or f"<{type(source).__name__}>")


@contextmanager
def reading_image(path: str) -> Iterator[None]:
    """What goes wrong in Pillow, as MissingImageError or ImageReadError that names the image."""
    try:
        yield
    except FileNotFoundError:
        raise MissingImageError(f"there is no image file {path!r}") from None
    except IsADirectoryError:
        raise ImageReadError(f"{path!r} is a folder, not an image file") from None
    except UnidentifiedImageError:
        raise ImageReadError(f"{path!r} is not an image of a known format, or is empty") from None
    except UserError:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for some broken PNG files, a closed file ValueError.
        raise ImageReadError(f"the image {path!r} cannot be read: {error}") from error


def image_to_array(image: Image.Image, format: str = "BGR") -> np.ndarray:
    """A Pillow image of any mode as (H, W, 3) uint8; see `read_image`."""
    if format not in FORMATS:
        raise ValueError(f"image format must be one of {FORMATS}, got {format!r}")
    image = _upright(image)
    if image.mode in _DEEP_MODES:
        gray = _to_8_bit(np.asarray(image), image.mode)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    array = np.asarray(image.convert("RGB"))
    if format == "BGR":
        array = array[:, :, ::-1]
    return np.ascontiguousarray(array)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except BAD_EXIF:
        image.load()  # damaged pixels are an error, a damaged EXIF block is not
        return image


def _to_8_bit(array: np.ndarray, mode: str) -> np.ndarray:
    """(H, W) of a deep Pillow mode as uint8.

    16-bit values are scaled by 65535. `I` is what older versions of Pillow make of 16-bit PNG,
    so it means the same unless its values are larger; `F` has no agreed range: 0..1 and 0..255
    are recognized, anything else is scaled by its maximum.
    """
    values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    values = values.clip(min=0)
    largest = values.max(initial=0.0)
    if mode == "F":
        scale = 1.0 if largest <= 1 else 255.0 if largest <= 255 else largest
    else:
        scale = max(65535.0, largest)
    return np.round(values * (255.0 / scale)).astype(np.uint8)
