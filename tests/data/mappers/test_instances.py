import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from pycocotools import mask as mask_util

from tests.support.record_mapping import box, detection, mapper


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def rle(x, y, w, h, compressed=True):
    mask = np.zeros((60, 80), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    if compressed:
        return mask_util.encode(mask)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [60, 80], "counts": np.diff([0, *changes, flat.size]).tolist()}


def array(x, y, w, h):
    return [np.array(corners, dtype=float) for corners in polygon(x, y, w, h)]


@pytest.mark.parametrize("make", [polygon, array, rle, lambda *a: rle(*a, compressed=False)])
@pytest.mark.parametrize("crop", [False, True])
def test_masks(image_file, tokenizer, make, crop):
    source = detection(
        image_file,
        box(10, 10, 20, 20, category_id=0, segmentation=make(10, 10, 20, 20)),
        box(50, 20, 20, 10, category_id=1, segmentation=make(50, 20, 20, 10)),
    )
    before = repr(source)
    augmentations = [T.CropTransform(20, 0, 60, 60)] if crop else [T.HFlipTransform(80)]
    options = {"max_classes": 1, "use_masks": True, "recompute_boxes": crop}
    instances = mapper(tokenizer, augmentations, **options)(source)["instances"]
    assert repr(source) == before  # a record may be drawn again
    assert instances.gt_masks.tensor.dtype == torch.bool
    assert instances.gt_masks.tensor.shape == (2, 60, 60 if crop else 80)
    expected = [[0, 10, 10, 30], [30, 20, 50, 30]] if crop else [[50, 10, 70, 30], [10, 20, 30, 30]]
    assert instances.gt_boxes.tensor.tolist() == expected
    assert instances.gt_masks.get_bounding_boxes().tensor.tolist() == expected


def test_masks_are_all_or_none(image_file, tokenizer):
    with_mask = box(10, 10, 20, 20, category_id=0, segmentation=polygon(10, 10, 20, 20))
    without = box(10, 10, 20, 20, category_id=0)
    convert = mapper(tokenizer, use_masks=True)
    assert not convert(detection(image_file, without))["instances"].has("gt_masks")
    with pytest.raises(ValueError, match=r"a\.png: 1 of 2 annotations have no segmentation"):
        convert(detection(image_file, with_mask, without))
    wrong = {**with_mask, "segmentation": mask_util.encode(np.ones((9, 9), np.uint8, order="F"))}
    with pytest.raises(ValueError, match=r"mask has the size \(9, 9\)"):
        convert(detection(image_file, wrong))
    assert not mapper(tokenizer)(detection(image_file, with_mask))["instances"].has("gt_masks")
    with pytest.raises(ValueError, match="recompute_boxes"):
        mapper(tokenizer, recompute_boxes=True)
