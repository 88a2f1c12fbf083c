"""Pictures of detections, with labels in every script that this machine has a font for."""

from __future__ import annotations

import colorsys
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask

from ...engine.results import Line
from ...errors import printable

# JPEG's limit is 65,535, that of its usual library a little less.
LARGEST_SIDE = 65500
SMALLEST_SIDE = 640  # of the longer side: below it no label can be read
TEXT_SIZE = 0.03  # of the text below a picture, of the picture's width
# They choose between shapes of the character before them and have none of their own.
_JOINERS = dict.fromkeys((0x200D, 0xFE0E, 0xFE0F))

Place = tuple[float, float, float, float]  # left, top, right, bottom

# Once per name.
_warn = lru_cache(maxsize=1024)(logging.getLogger(__name__).warning)


def draw(pixels: np.ndarray, instances: Instances, text: Sequence[Line] = ()) -> np.ndarray:
    """Draw boxes, phrases, scores and masks with Detectron2's Visualizer.

    Args:
        pixels: (H, W, 3) uint8, BGR.
        instances: with `pred_boxes`, `scores`, `pred_phrases`, `pred_classes` and maybe
            `pred_masks`.
        text: lines that are written below it, broken where they are too long.

    Returns:
        (H, W, 3) uint8, RGB, enlarged where the image is too small for letters, and made smaller
        where JPEG allows no such side. A phrase in a script without a font is labeled `#3` after
        its class id, and named once in a warning.
    """
    longest = max(pixels.shape[:2])
    scale = min(max(1.0, SMALLEST_SIDE / longest), LARGEST_SIDE / longest)
    visualizer = _Visualizer(pixels[:, :, ::-1], scale=scale)
    scores = instances.scores.tolist()
    classes = instances.pred_classes.tolist()
    names = [_label(str(n), c) for n, c in zip(instances.pred_phrases, classes)]
    colors = [_bright_color(class_id) for class_id in classes]
    # Not together with the boxes: there a hole is one more polygon, and filled.
    for mask, color in zip(instances.pred_masks if instances.has("pred_masks") else (), colors):
        visualizer.draw_binary_mask(mask.numpy(), color, area_threshold=0)
    drawn = visualizer.overlay_instances(
        boxes=instances.pred_boxes,
        labels=[f"{name} {score:.0%}" for name, score in zip(names, scores)],
        assigned_colors=colors,
    )
    picture = drawn.get_image()
    return np.concatenate((picture, _written(text, picture.shape[1]))) if text else picture


def draw_frame(
    pixels: np.ndarray, detections: Sequence[dict[str, Any]], text: Sequence[Line] = ()
) -> np.ndarray:
    """Draw the detections of a video's frame: in its own size, and in a hundredth of the time.

    Args:
        pixels: (H, W, 3) uint8, BGR.
        detections: of the report: `box`, `phrase`, `class_id`, `score`, and maybe `mask` and
            `track`, which has the color then.
        text: lines that are written over the lower end.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    frame = np.ascontiguousarray(pixels[:, :, ::-1])
    colors = [
        tuple(round(255 * part) for part in _bright_color(d.get("track") or d["class_id"]))
        for d in detections
    ]
    for detection, color in zip(detections, colors):
        if "mask" in detection:
            inside = coco_mask.decode(detection["mask"]).astype(bool)
            frame[inside] = (0.6 * frame[inside] + 0.4 * np.array(color)).astype(np.uint8)
    picture = Image.fromarray(frame)
    brush = ImageDraw.Draw(picture)
    size = max(11, round(0.025 * max(picture.size)))
    taken: list[Place] = []
    for detection, color in zip(detections, colors):
        brush.rectangle(detection["box"], outline=color, width=max(1, size // 6))
    for detection, color in zip(detections, colors):
        name = _label(detection["phrase"], detection["class_id"])
        track = f"#{detection['track']} " if detection.get("track") else ""
        label = f"{track}{name} {detection['score']:.0%}"
        x0, y0, _, _ = detection["box"]
        room = picture.width - _font(label, size).getlength(label)
        x, y = max(0, min(x0, room)), max(0, y0 - 1.3 * size)
        place = brush.textbbox((x, y), label, font=_font(label, size))
        y += _step_aside(place, taken, picture.height)
        brush.rectangle(taken[-1], fill=(0, 0, 0))
        brush.text((x, y), label, fill=color, font=_font(label, size))
    if text:
        band = Image.fromarray(_written(text, picture.width))
        picture.paste(band, (0, picture.height - band.height))
    return np.asarray(picture)


def _written(text: Sequence[Line], width: int) -> np.ndarray:
    """(h, width, 3) uint8, RGB: lines of text on black, broken between words."""
    size = max(14, round(width * TEXT_SIZE))
    margin, height = size // 2, round(size * 1.4)
    placed: list[tuple[int, float, str, int | None]] = []  # row, x, part of a word, class
    row = -1
    for line in text:
        row, x = row + 1, 0.0
        for word in _words(line, size, width - 2 * margin):
            length = sum(_font(part, size).getlength(part) for part, _ in word)
            if x and x + length > width - 2 * margin:
                row, x = row + 1, 0.0
            for part, class_id in word:
                if x or part.strip():  # no space begins a line
                    placed.append((row, x, part, class_id))
                    x += _font(part, size).getlength(part)
    strip = Image.new("RGB", (width, (row + 1) * height + 2 * margin))
    brush = ImageDraw.Draw(strip)
    for row, x, part, class_id in placed:
        color = (1.0, 1.0, 1.0) if class_id is None else _bright_color(class_id)
        rgb = tuple(round(255 * value) for value in color)
        place = (margin + x, margin + row * height)
        brush.text(place, part, fill=rgb, font=_font(part, size))
    return np.asarray(strip)


def _words(line: Line, size: int, longest: float) -> Iterator[Line]:
    """What is not broken: words with the punctuation at them, each white space; the characters of
    what is too long, as in scripts without spaces."""
    parts = [
        (_drawable(part), class_id)
        for text, class_id in line
        for part in re.findall(r"\s+|\S+", text)
    ]
    for is_space, group in groupby(parts, key=lambda part: part[0].isspace()):
        word = [(" ", None)] if is_space else list(group)
        if sum(_font(part, size).getlength(part) for part, _ in word) <= longest:
            yield word
        else:
            yield from ([(char, class_id)] for part, class_id in word for char in part)


def _drawable(text: str) -> str:
    """The text with "?" for characters that no font has."""
    shown = text.translate(_JOINERS)
    missing = _fonts(shown)[1]
    if missing:
        _warn(f"no font on this machine has all characters of {printable(repr(text))}")
    return "".join("?" if char in missing else char for char in shown)


@lru_cache(maxsize=1024)
def _font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that has all characters of a text, or most."""
    others = dict(_installed_fonts()) if _fonts(text)[0] else {}
    paths = [others[family] for family in _fonts(text)[0]]
    return ImageFont.truetype(paths[0] if paths else _usual_font().fname, size)


def _step_aside(label: Place, taken: list[Place], height: float) -> float:
    """By how much a label goes down, or up at the lower end of the picture, so that it hides none
    of those that are `taken`; it is added to them. Boxes in one place have their labels below each
    other."""
    x0, top, x1, bottom = label
    size = bottom - top
    beside = [place for place in taken if place[0] < x1 and x0 < place[2]]
    for _, upper, _, lower in sorted(beside, key=lambda place: place[1]):
        if upper < top + size and top < lower:
            top = lower
    if top + size > height:
        top = label[1]
        for _, upper, _, lower in sorted(beside, key=lambda place: -place[3]):
            if upper < top + size and top < lower:
                top = upper - size
    taken.append((x0, top, x1, top + size))
    return top - label[1]


class _Visualizer(Visualizer):
    """Labels are text, not formulas between dollar signs, may need several fonts, and hide none of
    each other."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._taken: list[Place] = []

    def draw_text(self, text, position, **options):
        output = super().draw_text(text, position, **options)
        drawn = self.output.ax.texts[-1]
        drawn.set_parse_math(False)
        drawn.set_family([_usual_font().family_name, *_fonts(text)[0]])
        # With its background; of the picture's pixels, from the upper left corner.
        drawn.update_bbox_position_size(renderer := self.output.canvas.get_renderer())
        extent = drawn.get_bbox_patch().get_window_extent(renderer)
        height = self.output.canvas.get_width_height()[1]
        place = (extent.x0, height - extent.y1, extent.x1, height - extent.y0)
        x, y = drawn.get_position()
        drawn.set_position((x, y + _step_aside(place, self._taken, height) / self.output.scale))
        return output


def _label(name: str, class_id: int) -> str:
    """The name as it can be drawn."""
    shown = name.translate(_JOINERS)
    if not _fonts(shown)[1]:
        return shown
    _warn(
        f"no font on this machine has all characters of {printable(repr(name))}: its boxes are "
        f"labeled #{class_id} in the pictures; install a font that has them (Noto has all scripts)"
    )
    return f"#{class_id}"


def _usual_font() -> FT2Font:
    """Detectron2's, "sans-serif"."""
    family = font_manager.FontProperties(family=["sans-serif"])
    return font_manager.get_font(font_manager.findfont(family))


@lru_cache(maxsize=1024)
def _fonts(text: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The families of fonts that a text needs besides the usual one, and the characters that no
    font has."""
    usual = _usual_font()
    missing = {c for c in text if c.isprintable() and not usual.get_char_index(ord(c))}
    chosen: list[str] = []
    for family, path in _installed_fonts() if missing else ():
        font = font_manager.get_font(path)
        found = {c for c in missing if font.get_char_index(ord(c))}
        if found:
            chosen.append(family)
            missing -= found
        if not missing:
            break
    return tuple(chosen), frozenset(missing)


@lru_cache(maxsize=1)
def _installed_fonts() -> list[tuple[str, str]]:
    """(family, file) of each family that can be drawn, those with the most characters first."""
    files: dict[str, str] = {}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda e: e.weight != 400):
        # The letters of "Last Resort" are boxes with a number.
        if entry.style == "normal" and not entry.name.startswith("Last Resort"):
            files.setdefault(entry.name, entry.fname)
    sizes = {}
    for family, path in files.items():
        with suppress(OSError, RuntimeError):  # damaged, or of a kind that matplotlib cannot draw
            sizes[family] = font_manager.get_font(path).num_glyphs
    return [(family, files[family]) for family in sorted(sizes, key=lambda f: -sizes[f])]


def _bright_color(class_id: int) -> tuple[float, float, float]:
    """The color of a class: readable as text on black, and another one for its neighbors."""
    return colorsys.hsv_to_rgb(class_id * 0.618034 % 1.0, 0.6, 1.0)
