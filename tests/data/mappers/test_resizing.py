"""Sizes in proportion to the model's."""

import numpy as np

from glipv2_d2.data.mappers.resizing import resize_in_proportion


def test_glips_sizes_at_800_and_smaller_ones_for_a_smaller_model():
    resize = resize_in_proportion((60, 70, 80, 90, 100), 800, 1333)
    assert resize.short_edge_length == [480, 560, 640, 720, 800] and resize.max_size == 1333
    small = resize_in_proportion((50, 100), 192, 320)
    image = np.zeros((100, 150, 3), np.uint8)
    heights = {small.get_transform(image).new_h for _ in range(30)}
    assert heights == {96, 192}
