"""What a model and its export are asked, and that they answer the same."""

import numpy as np
import torch

NAMES = ["cat", "red kite", "traffic light"]


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same_detections(found, expected):
    assert len(expected)
    assert list(found.pred_phrases) == list(expected.pred_phrases)
    assert found.image_size == expected.image_size
    torch.testing.assert_close(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
    boxes, expected_boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(boxes, expected_boxes, atol=1e-3, rtol=1e-4)
