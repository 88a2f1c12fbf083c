import numpy as np
import pytest

from glipv2_d2.data.datasets.scenes import COLORS
from glipv2_d2.scenes.render import COLOR_RGB, footprint, make_object, paint_scene


@pytest.mark.parametrize("color", COLORS)
def test_a_painted_object_keeps_its_color(color):
    background = np.full((96, 96, 3), 0.5, dtype=np.float32)
    distances = dict.fromkeys(COLORS, 0)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        item = make_object(rng, color, "circle", 50.0)
        item.left = item.top = 10
        pixels = paint_scene(background, [item], light=seed) / 255.0
        side = item.mask.shape[0]
        inside = pixels[10 : 10 + side, 10 : 10 + side][item.mask > 0.99].mean(axis=0)
        nearest = min(COLORS, key=lambda name: np.abs(inside - COLOR_RGB[name]).sum())
        distances[nearest] += 1
    assert distances[color] == 8


@pytest.mark.parametrize("corner", [(-500, 10), (10, 500), (-20, 80)])
def test_what_lies_outside_of_the_image_is_not_painted(corner):
    background = np.full((96, 96, 3), 0.5, dtype=np.float32)
    item = make_object(np.random.default_rng(0), "red", "square", 50.0)
    item.left, item.top = corner
    covered = footprint(item, 96)
    changed = (paint_scene(background, [item], light=0.0) != 128).any(axis=2)
    assert covered.any() == changed.any() == (corner == (-20, 80))
    assert changed[covered].all()
