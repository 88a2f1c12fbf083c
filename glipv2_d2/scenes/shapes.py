"""Draws the eight shapes as anti-aliased masks."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

_SUPERSAMPLE = 4


def _circle(radius: float = 0.5, cx: float = 0.0, cy: float = 0.0, points: int = 72) -> np.ndarray:
    angles = np.linspace(0.0, 2.0 * math.pi, points, endpoint=False)
    return np.stack([cx + radius * np.cos(angles), cy + radius * np.sin(angles)], axis=1)


def _star(inner: float = 0.21) -> np.ndarray:
    radii = np.where(np.arange(10) % 2 == 0, 0.5, inner)
    angles = np.arange(10) * math.pi / 5.0 - math.pi / 2.0
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0.0, 2.0 * math.pi, 72, endpoint=False)
    x = 16.0 * np.sin(t) ** 3
    y = 13.0 * np.cos(t) - 5.0 * np.cos(2 * t) - 2.0 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 33.0, -(y + 2.5) / 33.0], axis=1)


def _cross(arm: float = 0.16) -> np.ndarray:
    a, b = arm, 0.5
    corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
    return np.array(corners + [(-x, -y) for x, y in corners])


def _regular(corners: int) -> np.ndarray:
    angles = np.arange(corners) * 2.0 * math.pi / corners - math.pi / 2.0
    return 0.55 * np.stack([np.cos(angles), np.sin(angles)], axis=1)


# shape -> (outline, the part cut out of it or None); unit coordinates, about 1 across, y down.
_OUTLINES = {
    "circle": (_circle(), None),
    "square": (0.36 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]), None),
    "triangle": (_regular(3), None),
    "star": (_star(), None),
    "heart": (_heart(), None),
    "cross": (_cross(), None),
    "ring": (_circle(), _circle(0.27)),
    "moon": (_circle(), _circle(0.42, cx=0.26)),
}


def shape_mask(shape: str, diameter: float, angle: float, squeeze: float) -> np.ndarray:
    """Draw the anti-aliased mask of one shape, centered.

    Args:
        shape: one of `SHAPES`.
        diameter: size in pixels before squeezing.
        angle: rotation in radians.
        squeeze: factor on the width before the rotation (a slight tilt of the plane).

    Returns:
        (s, s) float32 coverage in 0..1; the shape never touches the border.
    """
    half = int(math.ceil(diameter * 0.62)) + 2
    side = 2 * half
    canvas = Image.new("L", (side * _SUPERSAMPLE, side * _SUPERSAMPLE), 0)
    draw = ImageDraw.Draw(canvas)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for points, value in zip(_OUTLINES[shape], (255, 0)):
        if points is None:
            continue
        placed = (points * (squeeze, 1.0)) @ rotation.T * diameter + half
        draw.polygon([tuple(p) for p in placed * _SUPERSAMPLE], fill=value)
    return np.asarray(canvas.reduce(_SUPERSAMPLE), dtype=np.float32) / 255.0
