"""Overlap of boxes in float64, as the benchmarks' own NumPy evaluators compute it."""

from __future__ import annotations

import numpy as np


def box_iou(first: np.ndarray, second: np.ndarray, generalized: bool = False) -> np.ndarray:
    """IoU of every pair of boxes; boxes without area overlap nothing.

    Args:
        first: (N, 4) x0, y0, x1, y1.
        second: (M, 4).
        generalized: generalized IoU instead (Rezatofighi et al. 2019), in [-1, 1].

    Returns:
        (N, M) float64.
    """
    first = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    second = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    inner = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    intersection = inner.clip(min=0).prod(axis=-1)
    union = _area(first) + _area(second) - intersection
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    if not generalized:
        return iou
    outer = np.maximum(first[..., 2:], second[..., 2:]) - np.minimum(
        first[..., :2], second[..., :2]
    )
    hull = outer.clip(min=0).prod(axis=-1)
    gap = np.divide(hull - union, hull, out=np.zeros_like(hull), where=hull > 0)
    return iou - gap


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
