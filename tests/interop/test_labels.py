"""Names of images and classes, and the ways in which detections become labels."""

import json
import os

import pytest
import torch
from detectron2.structures import Boxes, Instances

from glipv2_d2.errors import UsageError
from glipv2_d2.interop import DetectedImage, Detection, Labels
from glipv2_d2.interop.labels import detection_records
from glipv2_d2.language.phrase_list import PhraseList


def labels_of(*files, names=(), phrases=("cat",)):
    found = [Detection(phrase, 0.5, [0, 0, 1, 1]) for phrase in phrases]
    return Labels([DetectedImage(file, 4, 4, found) for file in files], names)


def test_paths_and_stems_name_each_image_once(tmp_path):
    files = [
        str(tmp_path / name) for name in ("a/1.jpg", "b/1.jpg", "b/1.png", "b/B_1.JPG", "2.x.jpg")
    ]
    labels = labels_of(
        *files, "https://host/c/1.jpg?size=2", "https://host/", "https://host/b%20c.jpg"
    )
    assert labels.root == str(tmp_path)
    assert labels.paths == [
        "a/1.jpg", "b/1.jpg", "b/1.png", "b/B_1.JPG", "2.x.jpg", "1.jpg", "image", "b c.jpg",
    ]  # fmt: skip
    assert labels.stems == [
        "a_1_jpg", "b_1_jpg", "b_1_png", "B_1", "2.x", "1_jpg", "image", "b c",
    ]  # fmt: skip
    one = labels_of(files[0])
    assert (one.root, one.paths, one.stems) == (str(tmp_path / "a"), ["1.jpg"], ["1"])


def test_names_that_are_taken_get_a_number():
    labels = labels_of("https://h/x.jpg", "https://i/X.jpg", "https://j/x.jpg", "https://k/x_jpg")
    assert labels.paths == ["x.jpg", "X_2.jpg", "x_3.jpg", "x_jpg"]
    assert len({stem.casefold() for stem in labels.stems}) == 4
    assert labels_of().root == os.getcwd()


def test_classes_are_phrases_in_the_order_asked_for():
    labels = labels_of("x.jpg", names=("dog", "cat"), phrases=("cat", "kite", "cat"))
    assert labels.names == ("dog", "cat", "kite")
    assert labels.numbers == {"dog": 0, "cat": 1, "kite": 2}
    with pytest.raises(UsageError, match=r"the name 'a\\x07b' has a character that label files"):
        labels_of(names=("a\x07b",))


@pytest.fixture
def two_cats():
    boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 40.0], [1.234, 2.345, 3.456, 7.0]]))
    fields = {"pred_boxes": boxes, "scores": torch.tensor([0.98765, 0.25])}
    fields |= {"pred_classes": torch.tensor([3, 0]), "pred_phrases": PhraseList(["cat", "kite"])}
    return Instances((64, 80), **fields)


def test_instances_and_their_report_are_the_same_labels(two_cats, tmp_path):
    file = str(tmp_path / "a.jpg")
    direct = Labels.from_instances([(file, two_cats)], ["kite", "cat"])
    records = detection_records(file, two_cats)
    image = {"file": file, "height": 64, "width": 80}
    report = {"names": ["kite", "cat"], "images": [image], "detections": records}
    again = Labels.from_report(json.loads(json.dumps(report)))
    assert again.images == tuple(direct.images) and again.names == direct.names == ("kite", "cat")
    assert direct.images[0].detections[1] == Detection("kite", 0.25, [1.23, 2.35, 3.46, 7.0])


def test_a_file_that_is_named_in_two_ways_is_one_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = [
        {"file": f, "height": 4, "width": 4} for f in ("a.jpg", str(tmp_path / "a.jpg"), "b.jpg")
    ]
    labels = Labels.from_report({"images": images, "detections": []})
    assert [image.file for image in labels.images] == ["a.jpg", "b.jpg"]
