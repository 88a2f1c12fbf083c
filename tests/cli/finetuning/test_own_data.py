"""The user's data: what is left of them, and how they are split."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from glipv2_d2.cli.finetuning.own_data import read_own_data, write_records
from glipv2_d2.data import load_records, register_coco_dataset
from glipv2_d2.data.containers import BASE64, ImageSource
from glipv2_d2.data.images import read_record_image
from glipv2_d2.errors import DataError
from tests.support.tiny_data import NAMES, write_tiny_data


@pytest.fixture
def own(tmp_path):
    """own(name, change=a function of the json, images=10) -> a registered data set."""

    def make(name, change=lambda content: None, images=10):
        folder = tmp_path / name
        folder.mkdir()
        write_tiny_data(folder, images)
        path = folder / "tiny.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        register_coco_dataset(name, str(path), str(folder))
        return name

    return make


@pytest.fixture
def read(tmp_path, tokenizer):
    """read(train, val=None) -> (data, what was said)."""

    def call(train, val=None):
        said = []
        data = read_own_data(
            train, val, tokenizer=tokenizer, seed=0, picture=tmp_path / "data.png", say=said.append
        )
        return data, "\n".join(said)

    return call


def test_a_part_is_split_off(own, read, tmp_path):
    data, said = read(own("a"))
    assert data.classes == list(NAMES) and (len(data.train), len(data.val)) == (8, 2)
    assert "split off by image and class with seed 0" in data.measured in said
    assert sum((data.boxes_by_class("train") + data.boxes_by_class("val")).values()) == 18
    assert (tmp_path / "data.png").is_file()


def test_unreadable_images_are_left_out_and_told(own, read, tmp_path):
    name = own("a", images=12)
    (tmp_path / "a/003.png").write_bytes(b"no image")
    (tmp_path / "a/004.png").unlink()
    data, said = read(name)
    assert len(data.train) + len(data.val) == 10
    told = "\n".join(data.notes)
    assert "1 x unreadable image" in told and "003.png" in told
    assert "1 x missing image file" in told and "004.png" in told and "004.png" in said


def test_a_validation_set_that_shares_images_with_the_training_set(own, read, tmp_path):
    def copies(content):  # three of its images under other names
        content["images"] = content["images"][:3]
        for i, image in enumerate(content["images"]):
            image["file_name"] = f"copy{i}.png"

    train, val = own("train"), own("val", copies)
    for i in range(3):
        shutil.move(tmp_path / f"val/{i:03d}.png", tmp_path / f"val/copy{i}.png")
    data, _ = read(train, val)
    assert len(data.train) == 7 and len(data.val) == 3
    assert "3 training images are in the validation set, too" in data.notes[-1]
    assert "000.png" in data.notes[-1] and "not trained on" in data.notes[-1]


def test_a_validation_set_that_is_the_training_set(own, read):
    with pytest.raises(DataError, match="all 10 training images.*leave out --val"):
        read(own("train"), own("val"))


def renumbered(content):
    """The categories in another order, and one of them missing."""
    kept = [entry for entry in content["annotations"] if entry["category_id"] != 1]
    for entry in kept:
        entry["category_id"] = {2: 8, 3: 5}[entry["category_id"]]
    content["annotations"] = kept
    content["categories"] = [{"id": 5, "name": NAMES[2]}, {"id": 8, "name": NAMES[1]}]


def test_classes_of_both_sets_are_matched_by_name(own, read, tmp_path):
    train = own("train")
    val = own("val", renumbered, images=6)
    for i in range(6):  # other bytes, so that no image is shared
        with open(tmp_path / f"val/{i:03d}.png", "ab") as file:
            file.write(b" ")
    data, _ = read(train, val)
    assert len(data.train) == 10 and data.boxes_by_class("val") == {1: 4, 2: 3}


def test_a_class_that_only_the_validation_set_has(own, read):
    def other_name(content):
        content["categories"][0]["name"] = "red disc"

    with pytest.raises(DataError, match="does not have: 'red disc'; it has: 'red circle'"):
        read(own("train"), own("val", other_name, images=4))


def test_data_without_a_box(own, read):
    with pytest.raises(DataError, match="no image of 'a' has a box"):
        read(own("a", lambda content: content["annotations"].clear()))


def test_classes_without_a_box_are_left_out_and_told(own, read):
    def with_root(content):  # as Roboflow writes it
        content["categories"].insert(0, {"id": 0, "name": "shapes", "supercategory": "none"})

    data, _ = read(own("a", with_root))
    assert data.classes == list(NAMES) and "1 classes without a box: 'shapes'" in data.notes
    boxes = data.boxes_by_class("train") + data.boxes_by_class("val")
    assert boxes == {0: 6, 1: 6, 2: 6}


def test_names_that_a_prompt_would_separate_are_told(own, read):
    def with_comma(content):
        content["categories"][0]["name"] = "cup, paper"

    data, said = read(own("a", with_comma))
    assert data.classes[0] == "cup, paper"
    assert "1 class names that a prompt of glip detect cannot hold" in data.notes[-1]
    assert "'cup, paper'; rename" in data.notes[-1] in said


def test_what_is_written_is_what_was_read(own, read, tmp_path):
    polygon, rle = [[6, 8, 26, 8, 26, 32]], {"size": [96, 96], "counts": [0, 9, 9207]}

    def with_masks(content):
        content["annotations"][0]["segmentation"] = polygon
        content["annotations"][1].update(segmentation=rle, iscrowd=1)

    data, _ = read(own("a", with_masks))
    both = [*data.train, *data.val]
    write_records(tmp_path / "written.json", both, data.classes)
    register_coco_dataset("b", str(tmp_path / "written.json"), "")
    again = load_records("b")
    keys = ("file_name", "height", "width")
    assert [[r[k] for k in keys] for r in again] == [[r[k] for k in keys] for r in both]
    for one, other in zip(again, both):
        for a, b in zip(one["annotations"], other["annotations"], strict=True):
            assert a["bbox"] == [float(v) for v in b["bbox"]]
            for key in ("category_id", "iscrowd", "bbox_mode", "segmentation"):
                assert a.get(key) == b.get(key)


def test_images_inside_other_files_are_written_as_files(own, read, tmp_path):
    data, _ = read(own("a"))
    record = data.train[0]
    text = base64.b64encode(Path(record["file_name"]).read_bytes())
    (tmp_path / "a.json").write_bytes(text)
    source = ImageSource(BASE64, str(tmp_path / "a.json"), 0, len(text), "")
    lost = {**record, "file_name": str(tmp_path / "lost.png"), "image_source": source}
    write_records(tmp_path / "written.json", [lost], data.classes)
    register_coco_dataset("b", str(tmp_path / "written.json"), "")
    (again,) = load_records("b", check_files=True)
    assert np.array_equal(read_record_image(again), read_record_image(record))
