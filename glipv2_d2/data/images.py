"""The images of records: their pixels, and what their headers tell before anything is decoded."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.utils.file_io import PathManager

from ..errors import DataError, ImageReadError
from ..files import whole_file
from ..images import BAD_EXIF, image_to_array, open_image, reading_image
from .containers import image_bytes


class ImageSizeError(ImageReadError, SizeMismatchError):
    """An image has another size than its record says, so that its boxes would lie elsewhere."""


def read_record_image(record: Mapping[str, Any], format: str = "BGR") -> np.ndarray:
    """The image of a record: of its file, or of the TSV row or tar member that `image_source`
    (`ImageSource`) names.

    Returns:
        (H, W, 3) uint8, see `read_image`.

    Raises:
        MissingImageError, ImageReadError: see `read_image`.
        DataError: the container is missing or damaged.
    """
    name = record["file_name"]
    with reading_image(name), _opened(record) as file, open_image(file) as image:
        return image_to_array(image, format, name=name)


def image_file(record: Mapping[str, Any], folder: Path) -> str:
    """The path of a record's image; one that is no file, as in the json of labelme, becomes one.

    Args:
        folder: of such files, made if absent; they are named by their records' `image_id`.
    """
    source = record.get("image_source")
    if source is None:
        return record["file_name"]
    number = quote(str(record["image_id"]), safe="")
    path = folder / f"{number}_{Path(record['file_name']).name}"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(image_bytes(source))
    return str(path)


def record_image_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) as `read_record_image` would give it, from the header of the image.

    Raises: as `read_record_image`.
    """
    return _header(record)[0]


def check_image_size(record: dict[str, Any], image: np.ndarray) -> None:
    """Compare the size of an image with what its record says; fill in what it does not say.

    Args:
        record: with `file_name`; `height` and `width` are set where they are missing.
        image: (H, W, C), as `read_record_image` gives it.

    Raises:
        ImageSizeError: they differ; it names the likely cause.
    """
    height, width = image.shape[:2]
    if (record.setdefault("height", height), record.setdefault("width", width)) != (height, width):
        raise ImageSizeError(_other_size(record, *_header(record)))


def record_image_problem(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """(kind, what) that keeps a record from being read, as far as the header of its image tells.

    Pixels are not decoded: a file that is cut off behind its header is not noticed.

    Args:
        record: with `file_name` or `image_source`, and perhaps `height` and `width`.

    Returns:
        None for an image that is there and has the size that the record says.
    """
    try:
        (height, width), turned = _header(record)
    except FileNotFoundError as error:
        return "missing image file", str(error)
    except (DataError, ImageReadError, OSError) as error:
        return "unreadable image", str(error)
    if (record.get("height", height), record.get("width", width)) != (height, width):
        return "wrong image size", _other_size(record, (height, width), turned)
    return None


def _header(record: Mapping[str, Any]) -> tuple[tuple[int, int], bool]:
    """(height, width) of the upright image, and whether its EXIF orientation had to turn it."""
    with reading_image(record["file_name"]), _opened(record) as file:
        with open_image(file) as image:
            width, height = image.size
            try:
                turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
            except BAD_EXIF:
                turned = False
    return (width, height) if turned else (height, width), turned


def _opened(record: Mapping[str, Any]) -> IO[bytes]:
    """The bytes of the image; what an address has is kept on the disk for the next epoch."""
    source = record.get("image_source")
    if source is None:
        return PathManager.open(record["file_name"], "rb")
    return io.BytesIO(image_bytes(source))


def _other_size(record: Mapping[str, Any], size: tuple[int, int], turned: bool) -> str:
    height, width = size
    told = f"{record['width']}x{record['height']}"
    text = (
        f"the image {record['file_name']!r} is {width}x{height} (width x height), but its "
        f"annotations are for {told}"
    )
    if (record["height"], record["width"]) != (width, height):
        return f"{text}: it was resized, or is another file"
    if turned:
        return (
            f"{text}, which it is without the rotation of its EXIF orientation. Remove that tag "
            "from the file if the boxes are right without, or else swap the size in the annotations"
        )
    return (
        f"{text}: width and height are swapped, as where an EXIF rotation was lost when the file "
        "was copied. Take the original file, or rotate it"
    )
