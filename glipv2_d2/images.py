"""Images of any mode as 8-bit BGR or RGB arrays; one reader for mapper, predictor and tools."""

from __future__ import annotations

import io
import logging
import os
import re
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import IO, Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from .errors import (
    ImageReadError,
    MissingImageError,
    UsageError,
    UserError,
)
from .sources import open_source

AnyImage = str | os.PathLike | np.ndarray | torch.Tensor | Image.Image | bytes | IO[bytes]
FORMATS = ("BGR", "RGB")
# Names the most pixels of an image that is opened; without it Pillow's limit counts, 179 million.
PIXELS_VARIABLE = "GLIP_MAX_PIXELS"
_KINDS = (
    "a path or URL, the bytes of a file, a file open for reading bytes, a PIL image, an (H, W, 3) "
    "uint8 array in BGR order, or a (3, H, W) tensor in RGB order"
)
# A folder of equal images is one line, not thousands.
_warn = lru_cache(maxsize=1024)(logging.getLogger(__name__).warning)
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
    source: str | os.PathLike | bytes | IO[bytes] | Image.Image,
    format: str = "BGR",
    *,
    bits: int | None = None,
) -> np.ndarray:
    """Read an image.

    Gray, palette, CMYK and 1-bit images become color; the EXIF orientation is applied; alpha is
    laid over white (what viewers show) and not just dropped; 16-bit gray is scaled by its full
    range instead of clipped to white; of an animation the first frame is taken.

    Args:
        source: a path; `http://`, `https://` or another address that Detectron2's PathManager
            opens; a member of an archive, `photos.zip!beach.jpg` (`glipv2_d2.sources`); the bytes
            of a file, or the file opened for reading bytes; or a PIL image.
        format: `"BGR"` (Detectron2's default) or `"RGB"`.
        bits: how many bits of 16-bit gray count, as of a camera with 12. None: as many as the file
            says (TIFF); else 16, or 12 where no pixel has more, which is logged.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingImageError: no such file.
        ImageReadError: the file is damaged, empty or of an unknown format, or has more pixels than
            `GLIP_MAX_PIXELS` allows.
        UsageError: something of another type.
    """
    name = _name_of(source)
    with reading_image(name), ExitStack() as opened:
        if isinstance(source, Image.Image):
            return image_to_array(source, format, bits, name)
        file: Any = source
        if isinstance(source, str | os.PathLike):
            file = opened.enter_context(open_source(os.fspath(source)))
        elif isinstance(source, bytes | bytearray | memoryview):
            file = io.BytesIO(source)
        elif isinstance(source, io.TextIOBase):
            raise UsageError('an image file is open as text: open it for bytes, open(path, "rb")')
        elif not hasattr(source, "read"):
            raise UsageError(f"an image is {_KINDS}, got {type(source).__name__}")
        return image_to_array(opened.enter_context(open_image(file)), format, bits, name)


def open_image(file: str | IO[bytes]) -> Image.Image:
    """Pillow's image, of which the header is read; call it within `reading_image`.

    Raises:
        PIL.Image.DecompressionBombError: it has more pixels than `GLIP_MAX_PIXELS` allows.
        UsageError: `GLIP_MAX_PIXELS` is no number.
    """
    if most := os.environ.get(PIXELS_VARIABLE):
        if not most.isdecimal() or not int(most):
            raise UsageError(f"{PIXELS_VARIABLE} must be a whole number from 1, got {most!r}")
        Image.MAX_IMAGE_PIXELS = -(-int(most) // 2)  # from which on Pillow warns; it refuses twice
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image.open(file)


def bgr_array(image: AnyImage, name: str = "the image") -> np.ndarray:
    """An image in any of the forms in which people have one; what could be misread is refused.

    Args:
        image: an (H, W, 3) uint8 array in BGR order; a (3, H, W) tensor in RGB order, as
            torchvision has it, uint8 in 0..255 or floating-point in 0..1, on any device; or what
            `read_image` takes.
        name: for the messages.

    Returns:
        (H, W, 3) uint8, BGR, with a pixel at least.

    Raises:
        UsageError: a tensor or an array of another kind, no pixels, or no image at all; else as
            `read_image`.
    """
    if isinstance(image, torch.Tensor):
        return _of_tensor(image, name)
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


def _of_tensor(image: torch.Tensor, name: str) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise UsageError(
            f"{name} as a tensor must be (3, H, W) in RGB order, got shape {tuple(image.shape)}"
        )
    if image.is_floating_point():
        lowest, highest = (value.item() for value in image.aminmax())
        if not (0 <= lowest and highest <= 1):  # NaN is in no interval
            raise UsageError(
                f"{name} is a tensor of {image.dtype} with values in {lowest:g}..{highest:g}: they "
                "must lie in 0..1, neither normalized nor in 0..255"
            )
        image = (image * 255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise UsageError(f"{name} as a tensor must be uint8 or floating-point, got {image.dtype}")
    return np.ascontiguousarray(image.detach().flip(0).permute(1, 2, 0).cpu().numpy())


def listed(images: AnyImage | Iterable[AnyImage]) -> list[Any]:
    """One image or several (in any iterable, or in a (B, 3, H, W) tensor) as a list.

    Raises:
        UsageError: there is none.
    """
    alone = (str, os.PathLike, np.ndarray, torch.Tensor, Image.Image, bytes, bytearray, memoryview)
    if isinstance(images, torch.Tensor) and images.ndim == 4:
        images = iter(images)
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
    except Image.DecompressionBombError as error:
        pixels, most = (*re.findall(r"\d+", str(error)), "?", "?")[:2]
        raise ImageReadError(
            f"the image {path!r} has {pixels} pixels, more than {most}: a small file can unpack "
            f"to any size. If it may, set {PIXELS_VARIABLE}={pixels} (glip detect --max-pixels)"
        ) from None
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        # Pillow raises SyntaxError for some broken PNG files, a closed file ValueError.
        raise ImageReadError(f"the image {path!r} cannot be read: {error}") from error


def image_to_array(
    image: Image.Image, format: str = "BGR", bits: int | None = None, name: str = "an image"
) -> np.ndarray:
    """A Pillow image of any mode as (H, W, 3) uint8; see `read_image`."""
    if format not in FORMATS:
        raise ValueError(f"image format must be one of {FORMATS}, got {format!r}")
    bits = bits or _bits_told(image)
    image = _upright(image)
    if image.mode in _DEEP_MODES:
        gray = _to_8_bit(np.asarray(image), image.mode, bits, name)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    # Pillow puts the channels into order as it copies, much faster than NumPy reverses them.
    pixels = bytearray(image.tobytes("raw", format))
    return np.frombuffer(pixels, np.uint8).reshape(image.height, image.width, 3)


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # damaged pixels are an error, a damaged EXIF block is not
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except BAD_EXIF:
        return image


def _bits_told(image: Image.Image) -> int | None:
    """The bits of a TIFF file's pixels that count, where it says so."""
    tags: Any = getattr(image, "tag_v2", {})
    if 281 in tags:  # MaxSampleValue
        return int(np.ravel(tags[281])[0]).bit_length() or None
    bits = int(np.ravel(tags.get(258, 16))[0])  # BitsPerSample
    return bits if bits < 16 else None


def _to_8_bit(array: np.ndarray, mode: str, bits: int | None, name: str) -> np.ndarray:
    """(H, W) of a deep Pillow mode as uint8.

    `I` is what older versions of Pillow make of 16-bit PNG, so it means the same unless its values
    are larger; `F` has no agreed range: 0..1 and 0..255 are recognized, anything else is scaled by
    its maximum.
    """
    values = np.nan_to_num(array.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    values = values.clip(min=0)
    largest = values.max(initial=0.0)
    if mode == "F":
        scale = 1.0 if largest <= 1 else 255.0 if largest <= 255 else largest
    else:
        if bits is None and 0 < largest < 1 << 12:
            bits = 12
            _warn(
                f"an image of {os.path.dirname(name) or name!r} has 16-bit pixels below 4096 and "
                "does not say how many bits count: such images are read as of 12 bits; "
                "read_image(path, bits=16) reads them as they are"
            )
        scale = max(2.0 ** (bits or 16) - 1, largest)
    return np.round(values * (255.0 / scale)).astype(np.uint8)
