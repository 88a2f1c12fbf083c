"""Names of the "scenes" data set: 8 colors x 8 shapes, 12 pairs of which are never trained on."""

from __future__ import annotations

COLORS = ("red", "yellow", "green", "blue", "purple", "pink", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")

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

PLURALS = {shape: f"{shape}es" if shape == "cross" else f"{shape}s" for shape in SHAPES}

# (color, shape) pairs that occur in `novel` only. Balanced: each color and each shape loses one
# or two partners, so that every word is learnt with at least six.
HELD_OUT_PAIRS = (
    ("red", "circle"),
    ("yellow", "square"),
    ("green", "triangle"),
    ("blue", "star"),
    ("purple", "heart"),
    ("pink", "cross"),
    ("white", "ring"),
    ("black", "moon"),
    ("red", "cross"),
    ("green", "moon"),
    ("purple", "square"),
    ("white", "star"),
)

ALL_PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
BASE_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS)


def pair_name(pair: tuple[str, str]) -> str:
    """The class name of a (color, shape) pair, e.g. `"red star"`."""
    return f"{pair[0]} {pair[1]}"


ALL_CLASSES = tuple(pair_name(pair) for pair in ALL_PAIRS)
BASE_CLASSES = tuple(pair_name(pair) for pair in BASE_PAIRS)
# In the order of ALL_CLASSES.
NOVEL_CLASSES = tuple(pair_name(pair) for pair in ALL_PAIRS if pair in HELD_OUT_PAIRS)

CATEGORY_IDS = {pair: index for index, pair in enumerate(ALL_PAIRS, start=1)}


def categories(pairs: tuple[tuple[str, str], ...]) -> list[dict]:
    """COCO `categories` of the given pairs; a pair has the same id (1..64) in every file."""
    return [
        {"id": CATEGORY_IDS[pair], "name": pair_name(pair), "supercategory": pair[1]}
        for pair in pairs
    ]
