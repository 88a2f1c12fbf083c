import logging
import os
import re

import pytest
from detectron2.structures import BoxMode

from glipv2_d2.data import load_mdetr_json, load_records, register_grounding_dataset
from glipv2_d2.data.datasets.mdetr import load_mdetr_images
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError
from tests.support.pretraining_files import edited


def test_records(mdetr_json, images):
    records = load_mdetr_json(str(mdetr_json), str(images), "name")
    assert len(records) == 12
    record = records[3]
    assert record["file_name"] == os.path.join(str(images), "3.png")
    assert (record["height"], record["width"], record["image_id"]) == (60, 80, 103)
    assert record["caption"] == "the star 3 left of the blue ring"
    assert record["dataset_name"] == "name" and record["original_img_id"] == 3
    ring, star = record["annotations"]
    assert ring["spans"] == [[23, 32]] and ring["bbox_mode"] == BoxMode.XYWH_ABS
    assert star["bbox"] == [5, 10, 20, 20] and "category_id" not in star


def test_folders_by_data_source(mdetr_json):
    def edit(content):
        for i, image in enumerate(content["images"]):
            image["data_source"] = ["coco", "vg"][i % 2]

    path = edited(mdetr_json, edit)
    records = load_mdetr_json(path, {"coco": "c", "vg": "v"})
    assert [os.path.dirname(r["file_name"]) for r in records[:2]] == ["c", "v"]
    assert records[1]["data_source"] == "vg"
    with pytest.raises(DataError, match="data_source is 'vg'"):
        load_mdetr_json(path, {"coco": "c"}, report=Report(mode="raise"))
    assert len(load_mdetr_json(path, {"coco": "c"})) == 6


def test_evaluation_phrases_and_uncompressed_masks(mdetr_json):
    def edit(content):
        content["images"][0]["tokens_positive_eval"] = [[[4, 8]]]
        content["annotations"][0]["segmentation"] = {"size": [60, 80], "counts": [100, 4700]}

    records = load_mdetr_json(edited(mdetr_json, edit), "")
    assert records[0]["phrases"] == [[[4, 8]]]
    assert records[0]["annotations"][0]["segmentation"]["size"] == [60, 80]


def test_of_pseudo_labels_without_a_box_nothing_is_known_about_boxes(mdetr_json):
    def without_boxes_of_the_first(content):
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 100]

    def labeled(content):
        without_boxes_of_the_first(content)
        content["pseudo_labels"] = {"threshold": 0.5}

    truth = load_mdetr_json(edited(mdetr_json, without_boxes_of_the_first), "")
    assert [len(r["annotations"]) for r in truth[:2]] == [0, 2]
    labels = load_mdetr_json(edited(mdetr_json, labeled), "")
    assert "annotations" not in labels[0] and len(labels[1]["annotations"]) == 2


def test_bad_files(tmp_path, mdetr_json):
    with pytest.raises(DataError, match=r"no annotation file .*missing\.json"):
        load_mdetr_json(str(tmp_path / "missing.json"), "")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(DataError, match=r"broken\.json.*no valid json"):
        load_mdetr_json(str(broken), "")
    for text in ("[]", '{"images": []}', '{"images": [], "annotations": {}}'):
        broken.write_text(text)
        with pytest.raises(DataError, match=r"broken\.json: (not in MDETR's format|the field)"):
            load_mdetr_json(str(broken), "")


@pytest.mark.parametrize(
    ("edit", "message", "images", "boxes"),
    [
        (lambda c: c["images"][0].pop("caption"), "image 100 .*'caption' is missing", 11, 22),
        (lambda c: c["images"][0].update(caption=7), "image 100 .*'caption' is 7", 11, 22),
        (lambda c: c["images"][1].update(id=100), "images.0., image 100.*'id'", 10, 20),
        (lambda c: c["annotations"][0].update(image_id=5), "id 0.*of no image: 5", 12, 23),
        (lambda c: c["annotations"][0].pop("tokens_positive"), "'tokens_positive' is", 12, 23),
        (lambda c: c["annotations"][0].pop("bbox"), "'bbox' is missing", 12, 23),
        (lambda c: c["annotations"].append(c["annotations"][0]), "id 0.*equal to an", 12, 24),
    ],
)
def test_bad_entries(mdetr_json, edit, message, images, boxes, caplog):
    path = edited(mdetr_json, edit)
    with pytest.raises(DataError, match=rf"mdetr\.json: .*{message}"):
        load_mdetr_json(path, "", report=Report(mode="raise"))
    with caplog.at_level(logging.WARNING):
        records = load_mdetr_json(path, "")
    assert len(records) == images and sum(len(r["annotations"]) for r in records) == boxes
    assert re.search(message, caplog.text)


def test_a_caption_that_is_not_utf8_costs_one_record(mdetr_json, images, caplog):
    latin = mdetr_json.read_bytes().replace(b"the star 4 left", b"the st\xe4r 4 left")
    mdetr_json.write_bytes(latin)
    register_grounding_dataset("tiny_latin", str(mdetr_json), str(images))
    with caplog.at_level(logging.WARNING):
        assert len(load_records("tiny_latin")) == 11
    assert "1 x caption not UTF-8" in caplog.text and "image 104" in caplog.text
    with pytest.raises(DataError, match=r"image 104.*not UTF-8"):
        load_records("tiny_latin", invalid="raise")


def test_referring_expressions_ask_for_the_whole_caption(mdetr_json):
    path = edited(mdetr_json, lambda c: c["images"][0].update(caption=" the star 0 here  "))
    records = load_mdetr_json(path, "", whole_caption=True)
    assert records[0]["phrases"] == [[[1, 16]]]
    assert records[1]["phrases"] == [[[0, len("the star 1 left of the blue ring")]]]


def test_captions_as_a_task(mdetr_json):
    """Of all records, or of those that the file says so of."""
    assert {r["task"] for r in load_mdetr_json(str(mdetr_json), "", task="caption")} == {"caption"}
    path = edited(mdetr_json, lambda c: c["images"][0].update(task="question"))
    assert [r.get("task") for r in load_mdetr_json(path, "")[:2]] == ["question", None]


def test_captions_to_be_written(mdetr_json):
    """One record per image, with the captions of the file and their boxes."""

    def edit(content):
        content["images"][1].update(original_img_id=0, file_name="0.png")
        for image in content["images"][2:4]:
            del image["original_img_id"]
        content["annotations"][0]["bbox"] = [500, 0, 5, 5]

    path = edited(mdetr_json, edit)
    records = load_mdetr_images(path, "images", "name")
    assert [r["image_id"] for r in records[:4]] == [0, "2.png", "3.png", 4]
    first = records[0]
    assert (first["file_name"], first["task"], first["height"]) == ("images/0.png", "caption", 60)
    assert first["references"] == [f"the star {i} left of the blue ring" for i in (0, 1)]
    assert [len(r["annotations"]) for r in first["grounded_references"]] == [1, 2]
    assert "caption" not in first and first["dataset_name"] == "name"
    path = edited(mdetr_json, lambda c: c["images"][0].update(caption="  "))
    with pytest.raises(DataError, match="image 100.*'caption' is empty"):
        load_mdetr_images(path, "", report=Report(drop_records=False))
