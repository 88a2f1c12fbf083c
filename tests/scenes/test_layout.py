import numpy as np

from glipv2_d2.data.datasets.scenes import BASE_PAIRS, HELD_OUT_PAIRS
from glipv2_d2.scenes.layout import (
    MAX_OBJECTS,
    MIN_VISIBILITY,
    place_objects,
    sample_base_pairs,
    sample_novel_pairs,
)


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
