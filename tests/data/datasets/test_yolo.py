"""YOLO's labels as tools write them: where they are, what a line means, and what is wrong."""

import os

import pytest
from detectron2.data import MetadataCatalog

from glipv2_d2.data import load_records, register_detection_dataset
from glipv2_d2.data.datasets.yolo import read_yolo
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError
from tests.support.detection_exports import (
    NAMES,
    roboflow_yolo,
    write_images,
    write_yolo_labels,
    yolo,
)


@pytest.fixture
def labeled(tmp_path):
    """labeled(text of a.txt, **more of the yaml) -> (annotations of a.png, the report)."""

    def _labeled(text, more=""):
        path = yolo(tmp_path)
        path.write_text(path.read_text() + more)
        (tmp_path / "labels" / "train" / "a.txt").write_bytes(text)
        report = Report()
        return next(iter(read_yolo(str(path), "", report).records))["annotations"], report

    return _labeled


def test_a_polygon_is_a_mask_and_its_box(labeled):
    (annotation,), report = labeled(b"1 0.25 0.5 0.5 0.5 0.5 0.75")
    assert annotation["segmentation"] == [[20, 30, 40, 30, 40, 45]]
    assert annotation["bbox"] == [20, 30, 20, 15] and not report.kinds


def test_boxes_and_polygons_in_one_file(labeled):
    """Ultralytics would take the box for a polygon of two corners."""
    annotations, _ = labeled(b"0 0.5 0.5 0.5 0.5\n1 0.25 0.5 0.5 0.5 0.5 0.75\n")
    assert [a["bbox"] for a in annotations] == [[20, 15, 40, 30], [20, 30, 20, 15]]


def test_what_windows_writes(labeled):
    annotations, report = labeled(b"\xef\xbb\xbf0 0.5 0.5 1 1\r\n\r\n1.0 0.5  0.5\t0.5 0.5 \r\n")
    assert [a["bbox"] for a in annotations] == [[0, 0, 80, 60], [20, 15, 40, 30]]
    assert [a["label"] for a in annotations] == [0, 1] and not report.kinds


def test_keypoints_stand_behind_the_box(labeled):
    line = b"0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 1 0.3 0.3 0"
    (annotation,), _ = labeled(line, "kpt_shape: [3, 3]\n")
    assert annotation["bbox"] == [20, 15, 40, 30] and "segmentation" not in annotation


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("0 400 300 20 20", "box not normalized", "a.txt: line 2: 0 400 .*from 0 to 1"),
        ("0 0.5 0.5 0.5 0.5 0.9", "bad line", "5 numbers behind the class: a box has 4"),
        ("0 0.5", "bad line", "1 numbers behind the class"),
        ("bolt 0.5 0.5 0.5 0.5", "bad annotation", "line 2: .*could not convert .*'bolt'"),
        ("0.5 0.5 0.5 0.5 0.5", "unlisted class", "the class is 0.5, no whole number"),
        ("0 0.5 0.5 0.25 0.25", "annotation written twice", "line 2: 0 0.5 .*stands above"),
    ],
)
def test_a_line_that_cannot_be_used(labeled, line, kind, message):
    annotations, report = labeled(f"0 0.5 0.5 0.25 0.25\n{line}\n".encode())
    assert len(annotations) == 1 and report.kinds[kind][0] == 1
    with pytest.raises(DataError, match=message):
        report.mode = "raise"
        report.annotation(kind, *report.kinds[kind][1].split(": ", 1))


def test_a_class_beyond_the_list_and_a_box_without_area(tmp_path, caplog):
    path = yolo(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text(
        "7 0.5 0.5 0.5 0.5\n1 0.5 0.5 0 0.5\n1 0.5 0.5 0.5 0.5\n"
    )
    register_detection_dataset("yolo", path)
    assert [len(r["annotations"]) for r in load_records("yolo")] == [1, 3, 0]
    assert "a.txt: line 1: the class 7 is none of the 2 of the data set" in caplog.text
    assert "1 x box without area" in caplog.text


def test_names_are_texts_whatever_yaml_takes_them_for(tmp_path):
    path = yolo(tmp_path)
    path.write_text("train: images/train\nnames:\n  0: no\n  1: 007\n")
    register_detection_dataset("yolo", path)
    load_records("yolo")
    assert MetadataCatalog.get("yolo").thing_classes == ["no", "007"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/train\nnames: [bolt]\nnc: 3\n", "'nc' is 3, but 'names' has 1 names"),
        ("train: images/train\nnames: bolt\n", "'names' must be a list"),
        ("names: [bolt, nut]\n", "there is no 'train', only nothing to train or test on"),
        ("img: a.tsv\nlabel: b.tsv\n", "of GLIP's TSV files.*'glip_tsv'"),
        ("train: images/other\nnames: [bolt]\n", "there is no 'images/other'; looked for /"),
        ("train: [unclosed\n", "is no YAML that can be read"),
    ],
)
def test_a_yaml_that_cannot_be_used(tmp_path, text, message):
    path = yolo(tmp_path)
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        register_detection_dataset("yolo", path)
        load_records("yolo")


def test_a_folder_of_images_finds_its_labels_and_names(tmp_path):
    roboflow_yolo(tmp_path)
    for number, folder in enumerate(("valid", "valid/images")):
        register_detection_dataset(f"yolo{number}", tmp_path / folder)
        assert [len(r["annotations"]) for r in load_records(f"yolo{number}")] == [3, 3]
        assert MetadataCatalog.get(f"yolo{number}").thing_classes == NAMES


def test_a_list_of_images(tmp_path):
    path = yolo(tmp_path)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "some.txt").write_text("./images/train/b.png\nimages\\train\\a.png\n")
    path.write_text("train: lists/some.txt\nnames: [bolt, nut]\n")
    register_detection_dataset("yolo", path)
    names = [os.path.basename(r["file_name"]) for r in load_records("yolo", check_files=True)]
    assert names == ["b.png", "a.png"]


def test_labels_that_are_elsewhere(tmp_path):
    write_images(tmp_path / "pictures" / "x")
    write_yolo_labels(tmp_path / "texts" / "x")
    (tmp_path / "texts" / "classes.txt").write_text("bolt\nnut\n")
    register_detection_dataset("yolo", tmp_path / "texts", tmp_path / "pictures")
    assert [len(r["annotations"]) for r in load_records("yolo")] == [3, 3, 0]


def test_an_empty_line_of_a_list_of_names_does_not_shift_the_classes(tmp_path):
    write_images(tmp_path / "images")
    write_yolo_labels(tmp_path / "labels")
    (tmp_path / "classes.txt").write_text("bolt\n\nnut\n")
    register_detection_dataset("yolo", tmp_path / "images")
    with pytest.raises(DataError, match="class 1 has the name ''"):
        load_records("yolo")


def test_images_of_one_name_in_two_folders(tmp_path):
    path = yolo(tmp_path)
    write_images(tmp_path / "images" / "train" / "more")
    write_yolo_labels(tmp_path / "labels" / "train" / "more")
    (tmp_path / "labels" / "train" / "more" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    register_detection_dataset("yolo", path)
    assert [len(r["annotations"]) for r in load_records("yolo")] == [3, 3, 0, 1, 3, 0]


def test_images_without_a_file_of_labels(tmp_path, caplog):
    path = yolo(tmp_path)
    (tmp_path / "labels" / "train" / "b.txt").unlink()
    register_detection_dataset("yolo", path)
    assert [len(r["annotations"]) for r in load_records("yolo")] == [3, 0, 0]
    assert "1 of 3 images have no file of labels and count as images without" in caplog.text
    (tmp_path / "labels").rename(tmp_path / "texts")
    with pytest.raises(DataError, match="none of 3 images has a file of labels; .*labels/train/a"):
        load_records("yolo")


def test_labels_of_images_that_are_not_there(tmp_path, caplog):
    path = yolo(tmp_path)
    (tmp_path / "images" / "train" / "b.png").unlink()
    (tmp_path / "images" / "train" / "c.png").write_bytes(b"damaged")
    register_detection_dataset("yolo", path)
    assert len(load_records("yolo")) == 1
    assert "unreadable image" in caplog.text
    assert "b.txt: it has the labels of no image" in caplog.text


def test_no_list_of_names(tmp_path):
    write_images(tmp_path / "images")
    write_yolo_labels(tmp_path / "labels")
    register_detection_dataset("yolo", tmp_path)
    with pytest.raises(DataError, match="no class is known, .*classes.txt, a name a line"):
        load_records("yolo")
    register_detection_dataset("named", tmp_path, classes=NAMES)
    assert [len(r["annotations"]) for r in load_records("named")] == [3, 3, 0]
