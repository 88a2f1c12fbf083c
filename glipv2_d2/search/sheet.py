"""Pictures of regions, with what is around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..errors import UserError
from ..images import read_image
from .store import Match

__all__ = ["contact_sheet", "picture_of"]

SIDE = 240
COLUMNS = 5
# The side of what is shown, of the box's longer side.
CONTEXT = 2.0
_TEXT, _GAP = 20, 8
_COLOR = (255, 60, 40)


def picture_of(match: Match, box: Sequence[float] | None = None) -> Image.Image:
    """The box of a region, outlined, in a square of twice its size.

    Args:
        box: in place of the region's.

    Raises:
        ImageReadError, OSError: the image cannot be read.
    """
    image = Image.fromarray(read_image(match.file, "RGB"))
    x1, y1, x2, y2 = box or match.box
    half = max(CONTEXT * max(x2 - x1, y2 - y1), 32) / 2
    left, top = (x1 + x2) / 2 - half, (y1 + y2) / 2 - half
    shown = [math.floor(edge) for edge in (left, top, left + 2 * half, top + 2 * half)]
    # Outside of the image it is black.
    picture = image.crop((shown[0], shown[1], shown[2], shown[3]))
    scale = SIDE / picture.width
    picture = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    corners = [(x1 - shown[0]) * scale, (y1 - shown[1]) * scale]
    corners += [(x2 - shown[0]) * scale, (y2 - shown[1]) * scale]
    ImageDraw.Draw(picture).rectangle(corners, outline=_COLOR, width=2)
    return picture


def contact_sheet(matches: Sequence[Match]) -> Image.Image:
    """Pictures of regions, row by row, each with its score and file; gray where it cannot be read.

    Args:
        matches: at least one.
    """
    columns = min(COLUMNS, len(matches))
    rows = -(-len(matches) // columns)
    step = SIDE + _GAP, SIDE + _TEXT + _GAP
    sheet = Image.new("RGB", (columns * step[0] + _GAP, rows * step[1] + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for i, match in enumerate(matches):
        x, y = _GAP + i % columns * step[0], _GAP + i // columns * step[1]
        try:
            picture = picture_of(match)
        except (UserError, OSError):
            picture = Image.new("RGB", (SIDE, SIDE), "gray")
        sheet.paste(picture, (x, y))
        label = f"{match.score:.2f}  {Path(match.file).name}"
        while draw.textlength(label, font) > SIDE:
            label = label[:-1]
        draw.text((x, y + SIDE + 2), label, "black", font)
    return sheet
