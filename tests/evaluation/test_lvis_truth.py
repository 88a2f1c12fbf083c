import pytest
from pycocotools import mask as mask_util

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.evaluation.coco_truth import compressed_rle
from tests.support import lvis_sets
from tests.support.benchmark_predictions import evaluate


def test_what_has_one_meaning_is_filled_in(register_lvis):
    content = lvis_sets.random_lvis(9, images=3)
    outputs = lvis_sets.random_outputs(content, 9, per_image=4)
    for entry in content["annotations"]:
        outline = entry["segmentation"]
        rle = compressed_rle(outline, lvis_sets.HEIGHT, lvis_sets.WIDTH)
        entry["area"] = float(mask_util.area(rle))
    sound = build_evaluator(register_lvis("lvis_sound", content), distributed=False)
    for entry in content["annotations"]:
        del entry["area"], entry["id"]
        entry["image_id"], entry["bbox"] = str(entry["image_id"]), list(map(str, entry["bbox"]))
    bare = build_evaluator(register_lvis("lvis_bare", content), distributed=False)
    assert bare.truth.areas.tolist() == sound.truth.areas.tolist()
    found, expected = evaluate(bare, outputs)["bbox"], evaluate(sound, outputs)["bbox"]
    assert found == pytest.approx(expected, nan_ok=True) and found["AP"] > 0


def test_bad_annotations_are_named(register_lvis):
    content = lvis_sets.random_lvis(7, images=1)
    content["annotations"][0]["image_id"] = 5
    with pytest.raises(DataError, match="annotation 1 belongs to image 5"):
        build_evaluator(register_lvis("lvis_lost", content))
    del content["images"][0]["neg_category_ids"]
    content["annotations"] = []
    with pytest.raises(DataError, match="'neg_category_ids' is missing"):
        build_evaluator(register_lvis("lvis_field", content))
    content["annotations"] = None
    with pytest.raises(DataError, match="'annotations' is not a list"):
        build_evaluator(register_lvis("lvis_null", content))
    with pytest.raises(ValueError, match="ap must be one of"):
        build_evaluator(register_lvis("lvis_rule", lvis_sets.random_lvis(7)), ap="odd")
