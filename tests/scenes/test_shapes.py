import numpy as np
import pytest

from glipv2_d2.data.datasets.scenes import SHAPES
from glipv2_d2.scenes.shapes import shape_mask


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_are_smooth_and_stay_clear_of_the_border(shape):
    mask = shape_mask(shape, diameter=40.0, angle=0.7, squeeze=0.9)
    assert mask.min() == 0.0 and mask.max() == 1.0
    assert ((mask > 0.1) & (mask < 0.9)).sum() > 20  # anti-aliased
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() == 0.0
    solid = mask > 0.5
    for axis in (0, 1):
        extent = np.ptp(np.flatnonzero(solid.any(axis=axis))) + 1
        assert 14 <= extent <= 44


def test_a_ring_has_a_hole_and_a_moon_is_no_circle():
    center = (slice(22, 32), slice(22, 32))
    assert shape_mask("ring", 40.0, 0.0, 1.0)[center].max() == 0.0
    assert shape_mask("circle", 40.0, 0.0, 1.0)[center].min() == 1.0
    areas = {shape: shape_mask(shape, 40.0, 0.0, 1.0).sum() for shape in SHAPES}
    assert areas["moon"] < 0.7 * areas["circle"]
