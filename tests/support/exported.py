"""The model that is exported, what it and its export are asked, and that they answer the same."""

import numpy as np
import torch

from tests.support.tiny import tiny_model

INFERENCE = {"min_size": 96, "max_size": 160, "score_threshold": 0.1}
NAMES = ["cat", "red kite", "traffic light"]


def small_model(**overrides):
    """One fused block; an untrained model that is sure of something."""
    model = tiny_model(**{"neck.num_blocks": 1, **overrides}).eval()
    with torch.no_grad():
        model.head.bias0.fill_(0.0)
    return model


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
