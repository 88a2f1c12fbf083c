"""What was found in an image as a zip of label files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from ..errors import UsageError
from ..interop import FORMATS, DetectedImage, Detection, Labels
from .schemas import AskedLabels, Mask

__all__ = ["LABEL_FORMATS", "zipped"]

# "crops" are cut out of the image, which is kept encoded only.
LABEL_FORMATS = [name for name in FORMATS if name != "crops"]


def zipped(asked: AskedLabels) -> bytes:
    """The files of a format.

    Raises:
        UsageError: no such format, a mask that is none, or a phrase that label files cannot hold.
    """
    if asked.format not in LABEL_FORMATS:
        known = ", ".join(LABEL_FORMATS)
        raise UsageError(f"there is no format '{asked.format}': take one of {known}")
    for one in asked.detections:
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


def _check_mask(mask: Mask, height: int, width: int) -> None:
    """Refuse what pycocotools cannot decode: it would write beyond its memory."""
    lengths = run_lengths(mask.counts)
    whole = min(lengths, default=-1) >= 0 and sum(lengths) == height * width
    if mask.size != [height, width] or not whole:
        raise UsageError(f"a mask is no run-length code of {height} x {width} pixels")


def run_lengths(counts: str) -> list[int]:
    """The run lengths of COCO's compressed code; [] where it is none."""
    lengths: list[int] = []
    value = shift = 0
    for char in counts:
        bits = ord(char) - 48
        if not 0 <= bits < 64 or shift > 30:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths if not shift else []
