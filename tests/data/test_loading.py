"""Registered data sets are read: Detectron2's own, those of its readers and of ours."""

import json
import logging

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.catalog import Metadata
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta
from PIL import Image

from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_train_loader,
    load_records,
)
from glipv2_d2.data.loading import training_records
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError
from glipv2_d2.language.negatives import absent_class_ids
from tests.support.record_mapping import box, detection, make_mapper


@pytest.fixture
def lvis_json(tmp_path):
    """Ids from 1, paths in coco_url, verified-absent classes."""
    pytest.importorskip("lvis")
    names = get_lvis_instances_meta("lvis_v1")["thing_classes"]
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    images = []
    for i in (139, 285):
        Image.new("RGB", (80, 60)).save(tmp_path / "coco" / "val2017" / f"{i:012d}.jpg")
        images.append(
            {
                "id": i,
                "height": 60,
                "width": 80,
                "coco_url": f"http://images.cocodataset.org/val2017/{i:012d}.jpg",
                "neg_category_ids": [3, 1203],
                "not_exhaustive_category_ids": [7],
            }
        )
    content = {
        "images": images,
        "annotations": [
            {
                "id": i,
                "image_id": 139,
                "category_id": category,
                "bbox": [5, 5, 20, 20],
                "area": 400,
                "segmentation": [[5, 5, 25, 5, 25, 25]],
            }
            for i, category in enumerate((1, 7), 1)
        ],
        "categories": [
            {"id": i, "name": name, "frequency": "c"} for i, name in enumerate(names, 1)
        ],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    register_lvis_instances(
        "lvis_v1_tiny", get_lvis_instances_meta("lvis_v1"), str(path), str(tmp_path / "coco") + "/"
    )
    return path


def test_lvis_records_and_prompts(lvis_json, tokenizer):
    records = load_records("lvis_v1_tiny")
    assert records[0]["file_name"].endswith("coco/val2017/000000000139.jpg")
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 6]
    names = MetadataCatalog.get("lvis_v1_tiny").thing_classes
    assert absent_class_ids(records[0], "lvis_v1_tiny") == [2, 1202]
    convert = GroundingDatasetMapper(
        is_train=True,
        augmentations=[T.ResizeShortestEdge(48, 100)],
        tokenizer=tokenizer,
        full_prompt_prob=1.0,
    )
    # Only what is verified to be absent is a negative, although 85 names would fit.
    assert set(convert(records[0])["prompt"].class_ids) == {0, 6, 2, 1202}
    assert set(convert(records[1])["prompt"].class_ids) == {2, 1202}
    test = GroundingDatasetMapper(
        is_train=False, augmentations=[], tokenizer=tokenizer, chunk_size=40
    )
    prompts = test(records[0])["prompt"]
    assert len(prompts) == 31 and sum(len(p) for p in prompts) == 1203
    assert prompts[0].class_ids == tuple(range(40)) and "_" not in prompts[0].caption
    assert len(names) == 1203


def test_a_bad_polygon_of_lvis_costs_no_box(lvis_json, caplog):
    content = json.loads(lvis_json.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    lvis_json.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"lvis\.json.*invalid polygon"):
        load_records("lvis_v1_tiny", invalid="raise")
    records = load_records("lvis_v1_tiny")
    assert "1 x bad mask" in caplog.text
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 6]
    assert "segmentation" not in records[0]["annotations"][0]
    assert records[0]["file_name"].endswith("coco/val2017/000000000139.jpg")
    assert records[0]["neg_category_ids"] == [3, 1203]


def test_invalid_annotations_name_the_file(datasets, coco_json, tokenizer):
    content = json.loads(coco_json.read_text())
    content["annotations"][4]["bbox"] = [200, 5, 20, 20]
    coco_json.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"coco\.json.*image 4 .*4\.png.*wholly outside"):
        load_records(datasets[0], invalid="raise")
    assert not load_records(datasets[0])[4]["annotations"]


def test_missing_annotation_file(datasets, coco_json):
    coco_json.unlink()
    with pytest.raises(DataError, match=r"there is no annotation file .*coco\.json"):
        load_records(datasets[0])


@pytest.mark.parametrize(
    ("edit", "message", "problem", "boxes", "images"),
    [
        (
            lambda c: c["annotations"][0].update(category_id=9),
            r"coco\.json.*category_id=9",
            "1 x unknown class",
            10,
            12,
        ),
        (
            lambda c: c["annotations"].append(c["annotations"][0]),
            r"coco\.json.*equal to an earlier annotation",
            "1 x annotation written twice",
            11,
            12,
        ),
        (
            lambda c: c["images"][0].pop("width"),
            r"coco\.json.*'width' is missing",
            "1 x missing field",
            10,
            11,
        ),
        (
            lambda c: c["annotations"][0].update(bbox=[]),
            r"coco\.json.*'bbox' is missing or empty",
            "1 x bad box",
            10,
            12,
        ),
    ],
)
def test_bad_coco_json(datasets, coco_json, edit, message, problem, boxes, images, caplog):
    content = json.loads(coco_json.read_text())
    edit(content)
    coco_json.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load_records(datasets[0], invalid="raise")
    with caplog.at_level(logging.WARNING, logger="glipv2_d2"):
        records = load_records(datasets[0])
    assert len(records) == images and sum(len(r["annotations"]) for r in records) == boxes
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("glipv2_d2")]
    assert len(lines) == 1 and problem in lines[0] and "coco.json" in lines[0]


def test_annotation_file_that_is_no_json(datasets, coco_json):
    coco_json.write_text("{")
    with pytest.raises(DataError, match=r"coco\.json.*no valid json"):
        load_records(datasets[0])


def test_federated_images_without_questions_are_left_out(images, tokenizer, caplog):
    def load():
        base = {"height": 60, "width": 80, "annotations": []}
        return [
            {"file_name": str(images / f"{i}.png"), "image_id": i, "neg_category_ids": ids, **base}
            for i, ids in enumerate([[], [2], [1, 3]])
        ]

    DatasetCatalog.register("tiny_federated", load)
    MetadataCatalog.get("tiny_federated").set(
        thing_classes=["a", "b", "c"], evaluator_type="lvis"
    )  # ids in the file begin at 1
    with caplog.at_level(logging.WARNING):
        loader = build_grounding_train_loader(
            "tiny_federated",
            mapper=make_mapper(tokenizer, full_prompt_prob=1.0),
            total_batch_size=2,
        )
    batch = {s["image_id"]: s["prompt"].names for s in next(iter(loader))}
    assert {i: set(names) for i, names in batch.items()} == {1: {"b"}, 2: {"a", "c"}}
    assert "1 images without boxes" in caplog.text


@pytest.mark.parametrize("polygon", [[5, 5, 25, 5, 25, 25], [5, 5, 9**9, 5, 25, 25]])
def test_masks_that_are_not_trained_on_are_checked_and_not_stored(tmp_path, monkeypatch, polygon):
    image_file = str(tmp_path / "a.png")
    Image.new("RGB", (80, 60)).save(image_file)
    annotation = box(5, 5, 20, 20, category_id=0, segmentation=[polygon])
    kept = [detection(image_file, annotation)]
    monkeypatch.setitem(DatasetCatalog.data, "of_the_user", lambda: kept)
    monkeypatch.setitem(MetadataCatalog.data, "of_the_user", Metadata(thing_classes=["cat"]))
    bad = max(polygon) > 99
    for with_masks in (None, False):
        (record,) = training_records("of_the_user", Report(), with_masks=with_masks)
        stored = record["annotations"][0]
        assert ("segmentation" in stored) == (with_masks is None and not bad)
        assert stored["bbox"] == annotation["bbox"] and "segmentation" in annotation
        if bad:
            with pytest.raises(DataError, match="at least three corners x, y in or near"):
                training_records("of_the_user", Report(mode="raise"), with_masks=with_masks)
