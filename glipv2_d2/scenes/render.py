"""Paints the texture, shading and shadow of an object, and the scene from back to front."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageFilter

from .shapes import shape_mask

# sRGB in 0..1. Hues far enough apart to survive shading (which changes brightness only).
COLOR_RGB = {
    "red": (0.84, 0.09, 0.10),
    "yellow": (0.96, 0.83, 0.11),
    "green": (0.12, 0.62, 0.20),
    "blue": (0.12, 0.29, 0.86),
    "purple": (0.47, 0.14, 0.67),
    "pink": (0.98, 0.52, 0.72),
    "white": (0.93, 0.93, 0.93),
    "black": (0.09, 0.09, 0.10),
}
TEXTURES = ("plain", "stripes", "checks", "dots", "clouds")


@dataclass
class SceneObject:
    """One object of a scene, in pixels of the image.

    `mask` (s, s) float32 is its full coverage; its corner lies at (`left`, `top`), which may
    be negative. `visible` (H, W) bool and `visibility` are set once the scene is complete.
    """

    color: str
    shape: str
    diameter: float
    angle: float
    squeeze: float
    texture: str
    texture_seed: int
    mask: np.ndarray
    left: int = 0
    top: int = 0
    visible: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    visibility: float = 0.0

    @property
    def pair(self) -> tuple[str, str]:
        """Color and shape."""
        return self.color, self.shape

    @property
    def full_extent(self) -> int:
        """Longer side in pixels of the whole object's box, hidden parts included."""
        return max(tight_box(self.mask > 0.5)[2:])

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight (x, y, width, height) of the visible part."""
        return tight_box(self.visible)


def tight_box(solid: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) of a mask's pixels."""
    columns, rows = (np.flatnonzero(solid.any(axis=axis)) for axis in (0, 1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def make_object(rng: np.random.Generator, color: str, shape: str, diameter: float) -> SceneObject:
    """Make an object with random pose and texture, not yet placed."""
    angle = rng.uniform(0.0, 2.0 * math.pi)
    squeeze = rng.uniform(0.85, 1.0)
    return SceneObject(
        color=color,
        shape=shape,
        diameter=float(diameter),
        angle=angle,
        squeeze=squeeze,
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        texture_seed=int(rng.integers(2**31)),
        mask=shape_mask(shape, diameter, angle, squeeze),
    )


def _blur(values: np.ndarray, radius: float) -> np.ndarray:
    image = Image.fromarray(np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8))
    blurred = image.filter(ImageFilter.GaussianBlur(float(radius)))
    return np.asarray(blurred, dtype=np.float32) / 255.0


def _texture(rng: np.random.Generator, kind: str, side: int, diameter: float) -> np.ndarray:
    """(side, side) pattern in -1..1."""
    if kind == "plain":
        return np.zeros((side, side), dtype=np.float32)
    if kind == "clouds":
        coarse = rng.uniform(-1.0, 1.0, size=(6, 6)).astype(np.float32)
        return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    angle = rng.uniform(0.0, math.pi)
    period = max(4.0, diameter * rng.uniform(0.14, 0.25))
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) - side / 2.0
    u = (math.cos(angle) * x + math.sin(angle) * y) * (2.0 * math.pi / period)
    v = (-math.sin(angle) * x + math.cos(angle) * y) * (2.0 * math.pi / period)
    if kind == "stripes":
        return np.clip(3.0 * np.sin(u), -1.0, 1.0)
    if kind == "checks":
        return np.clip(4.0 * np.sin(u) * np.sin(v), -1.0, 1.0)
    return np.clip(4.0 * (np.cos(u) + np.cos(v) - 0.8), -1.0, 1.0)


def shade(item: SceneObject, light: float) -> np.ndarray:
    """Paint the surface of the object.

    Args:
        item: the object.
        light: direction that the light comes from, radians.

    Returns:
        (s, s, 3) float32 RGB in 0..1, valid where `item.mask` is positive.
    """
    rng = np.random.default_rng(item.texture_seed)
    side = item.mask.shape[0]
    amplitude = rng.uniform(0.06, 0.16)
    pattern = amplitude * _texture(rng, item.texture, side, item.diameter)
    lx, ly = math.cos(light), math.sin(light)
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) - side / 2.0) / item.diameter
    gradient = 0.3 * (lx * x + ly * y)
    # A bevel: the blurred mask is a height field, its slope against the light is the shading.
    height = _blur(item.mask, max(1.0, item.diameter * 0.05))
    slope_y, slope_x = np.gradient(height)
    bevel = -(slope_x * lx + slope_y * ly) * item.diameter * 0.12
    brightness = 1.0 + pattern + gradient + np.clip(bevel, -0.3, 0.3)
    base = np.array(COLOR_RGB[item.color]) * rng.uniform(0.92, 1.0) + rng.uniform(-0.03, 0.03, 3)
    base = np.clip(base, 0.02, 0.97).astype(np.float32)
    darker = base * np.minimum(brightness, 1.0)[..., None]
    return darker + (1.0 - darker) * (0.35 * np.maximum(brightness - 1.0, 0.0))[..., None]


def _window(
    item: SceneObject, size: int, dx: int = 0, dy: int = 0
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices (of the image, of the mask) where the object, shifted by (dx, dy), is inside."""
    side = item.mask.shape[0]
    left, top = item.left + dx, item.top + dy
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = max(min(left + side, size), x0), max(min(top + side, size), y0)
    image = (slice(y0, y1), slice(x0, x1))
    return image, (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def footprint(item: SceneObject, size: int) -> np.ndarray:
    """Mark the pixels that the object covers by more than half, occlusion aside: (size, size)."""
    covered = np.zeros((size, size), dtype=bool)
    pixels, part = _window(item, size)
    covered[pixels] = item.mask[part] > 0.5
    return covered


def paint_scene(background: np.ndarray, objects: list[SceneObject], light: float) -> np.ndarray:
    """Paint the objects, first one at the back, on the background.

    Args:
        background: (S, S, 3) float32 RGB in 0..1.
        objects: placed objects, from back to front.
        light: direction of the light, radians.

    Returns:
        (S, S, 3) uint8 RGB.
    """
    canvas = background.copy()
    size = canvas.shape[0]
    for item in objects:
        reach = item.diameter * 0.07 + 1.0
        shadow = _blur(item.mask, max(1.0, item.diameter * 0.05))
        dx, dy = (int(round(-reach * math.cos(light))), int(round(-reach * math.sin(light))))
        pixels, part = _window(item, size, dx, dy)
        canvas[pixels] *= 1.0 - 0.5 * shadow[part][..., None]
        pixels, part = _window(item, size)
        alpha = item.mask[part][..., None]
        canvas[pixels] = canvas[pixels] * (1.0 - alpha) + shade(item, light)[part] * alpha
    return np.round(np.clip(canvas, 0.0, 1.0) * 255.0).astype(np.uint8)
