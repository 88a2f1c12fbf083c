"""What is plainly left of, above, leftmost: with margins, so that nobody can disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RELATIONS = ("left of", "right of", "above", "below")
SUPERLATIVES = {"leftmost": (0, 1), "rightmost": (0, -1), "topmost": (1, 1), "lowest": (1, -1)}
MARGIN = 0.1  # of the image: what must lie between two centers for "left of" to be said


def holds(subject: Sequence[float], relation: str, other: Sequence[float]) -> bool | None:
    """Whether the center `subject` stands in a relation to the center `other`.

    Args:
        subject: x and y, as fractions of the image.
        relation: of `RELATIONS`.
        other: as `subject`.

    Returns:
        True if it plainly holds, False if the opposite side is plain, None in between.
    """
    dx, dy = subject[0] - other[0], subject[1] - other[1]
    along, across = (dx, dy) if relation in ("left of", "right of") else (dy, dx)
    if relation in ("right of", "below"):
        along = -along
    if along < -MARGIN and abs(across) < abs(along):
        return True
    return False if along > MARGIN / 2 else None


def plainly_first(values: np.ndarray, gap: float) -> int | None:
    """Position of the least value if the next one is larger by `gap`, else None."""
    order = np.argsort(values)
    return int(order[0]) if values[order[1]] - values[order[0]] >= gap else None
