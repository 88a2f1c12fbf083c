import numpy as np
import pytest

from glipv2_d2.data.datasets.scenes import BASE_PAIRS, COLORS, HELD_OUT_PAIRS, SHAPES
from glipv2_d2.scenes.layout import (
    MAX_OBJECTS,
    MIN_VISIBILITY,
    place_objects,
    sample_base_pairs,
    sample_novel_pairs,
)
from glipv2_d2.scenes.photos import EVAL_PHOTOS, TRAIN_PHOTOS, random_background
from glipv2_d2.scenes.render import COLOR_RGB, make_object, paint_scene
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


def test_backgrounds_of_training_and_evaluation_are_disjoint():
    assert not set(TRAIN_PHOTOS) & set(EVAL_PHOTOS)
    rng = np.random.default_rng(0)
    for photos in (TRAIN_PHOTOS, EVAL_PHOTOS):
        background = random_background(rng, photos, 64)
        assert background.shape == (64, 64, 3) and background.dtype == np.float32
        assert 0.0 <= background.min() and background.max() <= 1.0


def test_training_pairs_are_base_pairs_and_all_occur():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        pairs = sample_base_pairs(rng)
        assert 3 <= len(pairs) <= MAX_OBJECTS
        seen.update(pairs)
    assert seen == set(BASE_PAIRS)


def test_novel_objects_meet_distractors_of_both_attributes():
    rng = np.random.default_rng(0)
    seen = set()
    for index in range(300):
        pairs = sample_novel_pairs(rng, index)
        novel = [pair for pair in pairs if pair in HELD_OUT_PAIRS]
        base = [pair for pair in pairs if pair not in HELD_OUT_PAIRS]
        assert 1 <= len(novel) <= 3 and len(pairs) <= MAX_OBJECTS
        for color, shape in novel:
            assert sum(pair[0] == color for pair in base) >= 2
            assert sum(pair[1] == shape for pair in base) >= 2
        seen.update(novel)
    assert seen == set(HELD_OUT_PAIRS)


def test_placed_objects_stay_visible_and_apart():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        objects = place_objects(rng, sample_base_pairs(rng), size=128)
        total = np.zeros((128, 128), dtype=int)
        for item in objects:
            assert item.visibility >= MIN_VISIBILITY - 1e-6
            total += item.visible
        assert total.max() == 1  # visible parts do not overlap
