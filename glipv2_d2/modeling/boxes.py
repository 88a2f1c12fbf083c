"""Inclusive boxes: the one place that knows GLIP's legacy "+1" convention.

Detectron2's boxes are continuous, (x1, y1, x2, y2) with width x2 - x1. The official GLIP counts
pixels: its boxes end *on* the last pixel and have width x2 - x1 + 1. The two differ by one at x2
and y2, and in nothing else: IoU, coding and NMS "with +1" of inclusive boxes equal the plain ones
of continuous boxes.
"""

import math

import torch
from detectron2.modeling.box_regression import Box2BoxTransform

__all__ = ["InclusiveBoxCoder", "to_continuous", "to_inclusive"]


def _shift_end(boxes: torch.Tensor, by: float) -> torch.Tensor:
    return boxes + boxes.new_tensor([0.0, 0.0, by, by])


def to_inclusive(boxes: torch.Tensor) -> torch.Tensor:
    """Continuous boxes (..., 4) in pixels to inclusive ones."""
    return _shift_end(boxes, -1.0)


def to_continuous(boxes: torch.Tensor) -> torch.Tensor:
    """Inclusive boxes (..., 4) in pixels to continuous ones."""
    return _shift_end(boxes, 1.0)


class InclusiveBoxCoder:
    """(dx, dy, dw, dh) deltas between inclusive anchors and inclusive boxes.

    Args:
        weights: divisors' inverse of dx, dy, dw, dh; the official model's are (10, 10, 5, 5).
        scale_clamp: largest log width (height) ratio that decoding accepts.
    """

    def __init__(
        self,
        weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
        scale_clamp: float = math.log(1000.0 / 16),
    ):
        self.weights = weights
        self.scale_clamp = scale_clamp
        self._transform = Box2BoxTransform(weights, scale_clamp)

    def encode(self, anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Deltas (M, 4) that turn `anchors` (M, 4) into `boxes` (M, 4)."""
        return self._transform.get_deltas(to_continuous(anchors), to_continuous(boxes))

    def decode(self, deltas: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Inclusive boxes (M, 4) in pixels from deltas (M, 4) and inclusive anchors (M, 4)."""
        return to_inclusive(self._transform.apply_deltas(deltas, to_continuous(anchors)))
