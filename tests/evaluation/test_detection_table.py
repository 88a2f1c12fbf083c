import numpy as np
import pytest
import torch

from glipv2_d2.evaluation.detection_table import DetectionTable
from tests.support import lvis_sets


def table_of(image, scores, categories, masks=False):
    found = lvis_sets.make_instances([[0, 0, 9, 9]] * len(scores), scores, categories, masks)
    return DetectionTable.from_instances(image, np.array(categories), found)


def test_the_best_of_the_whole_are_those_of_the_best_of_its_parts():
    """Equal scores are ordered by image and place, however the rows came in."""
    rng = np.random.default_rng(0)
    tables = [
        table_of(image, np.round(rng.random(9) * 4) / 4, rng.integers(2, size=9).tolist())
        for image in range(8)
    ]
    whole = DetectionTable.concatenate(tables).best_per_category(5)
    parts = [
        DetectionTable.concatenate(part).best_per_category(5) for part in (tables[4:], tables[:4])
    ]
    again = DetectionTable.concatenate(parts).best_per_category(5)
    assert len(whole) == 10 and np.bincount(whole.category).tolist() == [5, 5]
    for column in ("image", "category", "score", "place"):
        assert getattr(again, column).tolist() == getattr(whole, column).tolist()


def test_masks_are_there_for_all_or_for_none():
    empty = table_of(0, [], [])
    with_masks = table_of(1, [0.5], [0], masks=True)
    assert DetectionTable.concatenate([empty, with_masks]).counts is not None
    with pytest.raises(ValueError, match="some images have predicted masks and others do not"):
        DetectionTable.concatenate([with_masks, table_of(2, [0.5], [0])])
    assert len(DetectionTable.concatenate([empty])) == 0


def test_areas_of_more_masks_than_a_byte_counts():
    """With NumPy 2 pycocotools fails at 256 masks."""
    masks = np.zeros((600, 30, 40), dtype=bool)
    for k, mask in enumerate(masks):
        mask.flat[:k] = True
    outputs = lvis_sets.make_instances([[0, 0, 9, 9]] * 600, [0.5] * 600, [0] * 600)
    outputs.pred_masks = torch.from_numpy(masks)
    table = DetectionTable.from_instances(0, np.zeros(600), outputs)
    assert table.mask_areas(np.array([[30, 40]])).tolist() == list(range(600))
