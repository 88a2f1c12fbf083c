"""Images that annotations name in their own ways, and what all formats of labels share."""

import os

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from glipv2_d2.data.datasets.labeled_images import (
    ImageFolder,
    LabeledImages,
    Unusable,
    corner_points,
    ellipse_points,
    labeled_box,
    labeled_mask,
    labeled_polygon,
    load_labeled_images,
    read_annotations,
    rotated,
)
from glipv2_d2.data.report import RecordError, Report
from glipv2_d2.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("1.jpg", "a/1.jpg", "b/1.jpg", "b/c.d.jpg", "b/only.PNG", ".hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return ImageFolder(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a/1.jpg"], "a/1.jpg"),
        (["b\\1.jpg"], "b/1.jpg"),
        (["1.jpg"], "1.jpg"),  # the whole path, and not the end of another
        (["1"], "1.jpg"),
        (["a/1"], "a/1.jpg"),
        (["C:\\images\\a\\1.jpg"], "a/1.jpg"),
        (["/elsewhere/only.PNG"], "b/only.PNG"),
        (["x/c.d"], "b/c.d.jpg"),
        (["not there", "../b/./1.jpg"], "b/1.jpg"),
        (["x/1.jpg", "only"], "b/only.PNG"),  # the first may be three files
    ],
)
def test_an_image_is_found_by_what_it_is_called(folder, names, found):
    assert os.path.relpath(folder.find(names, "here"), folder.root) == found


def test_an_image_that_is_not_found_is_told(folder):
    with pytest.raises(RecordError, match="here: 'x/1.jpg' may be '.*1.jpg' or '.*name the folder"):
        folder.find(["x/1.jpg"], "here")
    with pytest.raises(RecordError, match="here: there is no image 'c' below"):
        folder.find(["c", ""], "here")
    with pytest.raises(RecordError, match="here: there is no image 'images/a/only.PNG' below"):
        folder.find(["images/a/only.PNG"], "here")  # that of `b` is another image
    assert len(folder.files) == 5


def test_rotation_is_clockwise_on_the_screen():
    points = [(x, y) for x, y in rotated(corner_points(0, 0, 4, 2), (0, 0), 90)]
    assert points == [pytest.approx(p, abs=1e-9) for p in [(0, 0), (0, 4), (-2, 4), (-2, 0)]]
    xs, ys = zip(*ellipse_points((10, 20), 4, 3))
    assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx((6, 17, 14, 23))


def test_boxes_are_kept_to_hundredths():
    """A box that ends at the border of its image in six digits is not clipped there."""
    assert labeled_box(0, (0.5e-6, 0, 79.9999999, 60))["bbox"] == [0, 0, 80, 60]
    assert labeled_polygon(0, [(1, 2), (3, 2), (3, 7)], crowd=True)["iscrowd"] == 1
    with pytest.raises(ValueError, match="three points or more, this one has 2"):
        labeled_polygon(0, [(1, 2), (3, 2)])


@pytest.mark.parametrize(
    ("left", "top", "kept"),
    [(2, 1, 3), (-1, 1, 1), (2, -1, 1), (7, 1, 2), (2, 5, 2), (9, 9, 0), (-9, 0, 0)],
)
def test_a_mask_that_reaches_beyond_its_image_is_cut(left, top, kept):
    found = labeled_mask("a", np.array([[1, 1], [1, 0]], dtype=bool), left, top, 6, 8)
    assert mask_util.decode(found["segmentation"]).sum() == kept
    assert found["bbox"] == [left, top, 2, 2]  # the checks cut the box, and count it


def test_annotations_that_are_not_in_form_are_counted():
    def read(entry, first):
        if entry is None:
            raise Unusable("no box", "a tag")
        return labeled_box(entry["label"], [first, *entry["rest"]])

    entries = [{"label": "a", "rest": [1, 2, 3]}, None, {"rest": [1]}, {"label": "a", "rest": "x"}]
    report = Report()
    kept = read_annotations(enumerate(entries), read, report, 0)
    assert [(a["where"], a["bbox"]) for a in kept] == [(0, [0, 1, 2, 2])]
    kinds = {kind: first for kind, (_, first) in report.kinds.items()}
    assert kinds["no box"] == "1: a tag"
    assert kinds["missing field"] == "2: the field 'label' is missing"
    assert kinds["bad annotation"].startswith("3: {'label': 'a', 'rest': 'x'}: could not convert")


def record(name, *labels):
    annotations = [{**labeled_box(label, (0, 0, 4, 4)), "where": name} for label in labels]
    return {"file_name": name, "height": 8, "width": 8, "annotations": annotations}


def test_an_image_counts_once(caplog):
    def read(*_):
        return LabeledImages([record("a.jpg", "x"), record("b.jpg"), record("a.jpg", "x", "y")])

    records = load_labeled_images(read, "export", "")
    assert [(r["image_id"], len(r["annotations"])) for r in records] == [(1, 1), (2, 0)]
    assert "image labeled twice (first: export: a.jpg: another entry" in caplog.text


def test_no_class_at_all():
    with pytest.raises(DataError, match=r"export: no class is known.*classes=\[...\]"):
        load_labeled_images(lambda *_: LabeledImages([record("a.jpg")]), "export", "")
    with pytest.raises(DataError, match="class ' ' has the name ' ': empty"):
        load_labeled_images(lambda *_: LabeledImages([record("a.jpg", " ")]), "export", "")
