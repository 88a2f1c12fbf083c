"""What was found in an image as a zip of label files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from ..data.checks import run_lengths
from ..errors import UsageError
from ..interop import FORMATS, DetectedImage, Detection, Labels
from .schemas import AskedLabels, Mask

__all__ = ["LABEL_FORMATS", "zipped"]

# "crops" are cut out of the image, which is kept encoded only.
LABEL_FORMATS = [name for name in FORMATS if name != "crops"]


def zipped(asked: AskedLabels) -> bytes:
    """The files of a format.

    Raises:
        UsageError: no such format, a box outside the image, a mask that is none, or a phrase that
            label files cannot hold.
    """
    if asked.format not in LABEL_FORMATS:
        known = ", ".join(LABEL_FORMATS)
        raise UsageError(f"there is no format '{asked.format}': take one of {known}")
    for one in asked.detections:
        _check_box(one.box, asked.height, asked.width)
        if one.mask is not None:
            _check_mask(one.mask, asked.height, asked.width)
    found = [
        Detection(one.phrase, one.score, one.box, one.mask.model_dump() if one.mask else None)
        for one in asked.detections
    ]
    image = DetectedImage(asked.file, asked.height, asked.width, found)
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive, "w") as files:
        folder = Path(name)
        FORMATS[asked.format](Labels([image], read=None), folder)
        for path in sorted(folder.rglob("*")):
            files.write(path, path.relative_to(folder), zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def _check_box(box: list[float], height: int, width: int) -> None:
    x1, y1, x2, y2 = box
    if not (0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height):  # NaN is in no interval
        raise UsageError(f"box: {box} is not x1, y1, x2, y2 inside {height} x {width} pixels")


def _check_mask(mask: Mask, height: int, width: int) -> None:
    """Refuse what pycocotools cannot decode: it would write beyond its memory."""
    if mask.size != [height, width] or sum(run_lengths(mask.counts)) != height * width:
        raise UsageError(f"a mask is no run-length code of {height} x {width} pixels")
