"""Data sets for mask training: without masks, with some, with all."""

import json
from itertools import islice

import pytest
from detectron2.data import transforms as T

from glipv2_d2.data import GroundingDatasetMapper, build_grounding_train_loader
from glipv2_d2.data.records import Records
from glipv2_d2.data.report import WITHOUT_MASK, Report
from glipv2_d2.errors import DataError

SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


def record(*segmentations, **extra):
    annotations = [{"category_id": 0, "segmentation": s, **extra} for s in segmentations]
    return {"file_name": "a.png", "annotations": annotations}


def masked(records, name):
    return Records(records, name, Report(running=(WITHOUT_MASK,)), with_masks=True)


def test_a_data_set_without_masks_is_refused():
    boxes_only = {"file_name": "b.png", "annotations": [{"category_id": 0}, {"category_id": 1}]}
    message = r"'boxes'.*none of 3 annotations.*use_masks=False"
    with pytest.raises(DataError, match=message):
        masked([boxes_only, record([])], "boxes")
    # Crowds have no say, images without boxes are no fault.
    with pytest.raises(DataError, match="none of 2"):
        masked([boxes_only, record(SQUARE, iscrowd=1)], "boxes")
    masked([record()], "empty")


def test_boxes_of_questions_and_captions_need_no_masks(caplog):
    caplog.set_level("INFO")
    grounded = {"file_name": "b.png", "task": "question", "annotations": [{"spans": [[0, 2]]}]}
    records = masked([grounded], "asked")
    assert records[0] == grounded and records.report.totals() == {WITHOUT_MASK: 0}
    assert "'asked': the boxes of its questions have no masks" in caplog.text
    # Where there are some they are learned from.
    some = [{**grounded, "annotations": [{"segmentation": SQUARE}]}, grounded]
    assert masked(some, "asked")[1]["annotations"][0]["iscrowd"] == 1


def test_boxes_without_mask_become_crowds_and_are_counted():
    original = record(SQUARE, [], None)
    records = masked([original, record(SQUARE)], "some")
    assert [a.get("iscrowd", 0) for a in records[0]["annotations"]] == [0, 1, 1]
    assert "iscrowd" not in original["annotations"][1]
    assert records[1] == record(SQUARE)
    assert len(records) == 2
    assert records.report.totals() == {WITHOUT_MASK: 2}


def test_the_loader_of_a_mask_training(datasets, coco_json, tokenizer):
    def loader():
        mapper = GroundingDatasetMapper(
            is_train=True,
            augmentations=[T.ResizeShortestEdge(48, max_size=100)],
            tokenizer=tokenizer,
            use_masks=True,
        )
        return build_grounding_train_loader(datasets[:1], mapper=mapper, total_batch_size=4, seed=0)

    data = json.loads(coco_json.read_text())
    masks = [annotation.pop("segmentation") for annotation in data["annotations"]]
    coco_json.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"'tiny_detection'.*has a segmentation"):
        loader()
    for annotation, mask in zip(data["annotations"][1:], masks[1:]):
        annotation["segmentation"] = mask
    coco_json.write_text(json.dumps(data))
    samples = [sample["instances"] for batch in islice(loader(), 3) for sample in batch]
    # One of the boxes has no mask; all the others come with theirs.
    assert sum(map(len, samples)) == len(data["annotations"]) - 1
    assert all(len(instances.gt_masks) == len(instances) for instances in samples)
