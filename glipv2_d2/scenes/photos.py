"""Backgrounds: crops of the photographs that ship inside the scikit-image and scikit-learn wheels.

The photographs of training and of evaluation are disjoint, so that `val` and `novel` never show a
background that was seen in training.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import MissingPackageError

# (package, path inside it)
TRAIN_PHOTOS = (
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/camera.png"),
    ("sklearn", "datasets/images/china.jpg"),
)
EVAL_PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/grass.png"),
    ("sklearn", "datasets/images/flower.jpg"),
)
_DARKEST, _LIGHTEST = np.float32(0.18), np.float32(0.88)
_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def photo_path(package: str, relative: str) -> Path:
    """Find a photograph inside an installed package, without importing the package.

    Raises:
        MissingPackageError: the package or the file is absent; names the package to install.
    """
    distribution = _DISTRIBUTIONS[package]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            f"the backgrounds of the scenes come with {distribution}, which is not installed: "
            f"run `pip install {distribution}`"
        )
    path = Path(spec.origin).parent / relative
    if not path.is_file():
        raise MissingPackageError(
            f"{distribution} is installed but lacks {relative}: reinstall it from its wheel with "
            f"`pip install --force-reinstall {distribution}`"
        )
    return path


@functools.cache
def load_photos(photos: tuple[tuple[str, str], ...]) -> tuple[Image.Image, ...]:
    """Load the photographs as RGB images, once per process."""
    return tuple(Image.open(photo_path(*photo)).convert("RGB") for photo in photos)


def random_background(
    rng: np.random.Generator, photos: tuple[tuple[str, str], ...], size: int
) -> np.ndarray:
    """Cut a random square out of a photograph, resized, flipped and re-lit.

    Returns:
        (size, size, 3) float32 RGB in 0..1.
    """
    images = load_photos(photos)
    image = images[rng.integers(len(images))]
    shorter = min(image.size)
    side = int(round(shorter * rng.uniform(0.35, 0.95)))
    left = int(rng.integers(image.width - side + 1))
    top = int(rng.integers(image.height - side + 1))
    crop = image.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    pixels = np.asarray(crop, dtype=np.float32) / 255.0
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    gray = pixels.mean(axis=2, keepdims=True)
    pixels = gray + (pixels - gray) * rng.uniform(0.4, 1.0)
    tint = rng.uniform(0.9, 1.05, size=3) * rng.uniform(0.75, 1.05)
    # A little haze: no background is as dark as a black object or as light as a white one.
    return _DARKEST + (_LIGHTEST - _DARKEST) * np.clip(pixels * tint.astype(np.float32), 0.0, 1.0)
