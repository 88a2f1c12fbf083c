"""The boxes of a grid."""

import numpy as np

from glipv2_d2.engine.region_embedding import grid_boxes


def test_a_grid_has_each_size_all_over_the_image():
    boxes = grid_boxes(80, 160)
    assert boxes.shape == (284, 4) and boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes[0], [0, 0, 160, 80])
    sizes, counts = np.unique(boxes[:, 2:] - boxes[:, :2], axis=0, return_counts=True)
    assert dict(zip(map(tuple, sizes.tolist()), counts.tolist())) == {
        (160, 80): 1,
        (80, 40): 9,
        (40, 20): 49,
        (20, 10): 225,
    }
    smallest = boxes[-225:]
    assert len(np.unique(smallest, axis=0)) == 225
    assert (smallest[:, 2:].max(axis=0) == [160, 80]).all() and (boxes >= 0).all()
