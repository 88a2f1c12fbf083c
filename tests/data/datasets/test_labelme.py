"""labelme's json: every shape, groups, images beside, elsewhere and inside."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from glipv2_d2.data import load_records, read_record_image, register_detection_dataset
from glipv2_d2.data.datasets.labelme import read_labelme
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError
from tests.support.detection_exports import labelme, labelme_content, shape, write_images


@pytest.fixture
def read_json(tmp_path):
    """read_json(the content of a.json) -> (records, report)."""
    write_images(tmp_path / "images")

    def _read(content, name="a.json"):
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        report = Report()
        found = read_labelme(str(tmp_path), str(tmp_path / "images"), report)
        return list(found.records), report

    return _read


def drawn(read_json, *shapes):
    records, report = read_json(labelme_content("a.png", shapes))
    return records[0]["annotations"], report


def png(mask):
    file = io.BytesIO()
    Image.fromarray(np.array(mask, dtype=np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_shapes(read_json):
    found, report = drawn(
        read_json,
        shape("a", (9, 8), (1, 2)),  # corners in any order
        shape("b", (1, 2), (5, 2), (5, 7), kind="polygon"),
        shape("c", (20, 20), (23, 24), kind="circle"),  # center and a point of the line
        shape("d", (2, 5), (5, 2), (8, 5), (5, 8), kind="rotation"),  # X-AnyLabeling
        shape("e", (10, 20), (12, 21), kind="mask", mask=png([[0, 1, 1], [0, 0, 1]])),
        shape("f", (1, 2), (5, 2), (5, 7), kind=None),  # old versions wrote polygons alone
    )
    boxes = [a["bbox"] for a in found]
    assert boxes[:2] == [[1, 2, 8, 6], [1, 2, 4, 5]] and boxes[5] == boxes[1]
    assert boxes[2:5] == [[15, 15, 10, 10], [2, 2, 6, 6], [10, 20, 3, 2]]
    masks = [a.get("segmentation") for a in found]
    assert masks[0] is masks[3] is None and masks[1] == masks[5] == [[1, 2, 5, 2, 5, 7]]
    assert mask_util.decode(masks[4])[20:22, 10:13].tolist() == [[0, 1, 1], [0, 0, 1]]
    assert not report.kinds


def test_a_group_is_one_object(read_json):
    left = shape("a", (1, 2), (5, 2), (5, 7), kind="polygon", group_id=3)
    right = shape("a", (20, 2), (25, 2), (25, 9), kind="polygon", group_id=3)
    other = shape("b", (0, 0), (2, 2), group_id=3)
    found, _ = drawn(read_json, left, other, right, shape("a", (30, 30), (40, 40)))
    assert [a["bbox"] for a in found] == [[1, 2, 24, 7], [0, 0, 2, 2], [30, 30, 10, 10]]
    assert len(found[0]["segmentation"]) == 2
    found, _ = drawn(read_json, left, shape("a", (6, 6), (9, 9), group_id=3))
    assert found[0]["bbox"] == [1, 2, 8, 7] and "segmentation" not in found[0]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (shape("a", (1, 2), kind="point"), "shape without a box"),
        (shape("a", (1, 2), (3, 4), kind="line"), "shape without a box"),
        (shape("a", (1, 2), (3, 4), kind="polygon"), "bad annotation"),
        (shape("a", ("x", 2), (3, 4)), "bad annotation"),
        (shape("a", (1, 2), kind="mask", mask="!"), "bad mask"),
        (shape(7, (1, 2), (3, 4)), "bad label"),
        (shape(" ", (1, 2), (3, 4)), "missing label"),
        ({"label": "a"}, "missing field"),
        ("a", "no json object"),
    ],
)
def test_a_shape_that_cannot_be_used(read_json, given, kind):
    found, report = drawn(read_json, given)
    assert found == [] and report.kinds[kind][0] == report.annotations == 1
    assert "a.json: shape" in report.kinds[kind][1]


@pytest.mark.parametrize("path", ["images/a.png", "images\\a.png", "C:\\old\\a.png", "a.png"])
def test_an_image_is_found_by_its_path(read_json, tmp_path, path):
    (record,), _ = read_json({**labelme_content("a.png", []), "imagePath": path})
    assert record["file_name"] == str(tmp_path / "images" / "a.png")


def test_an_image_that_was_renamed_has_the_name_of_its_json(read_json, tmp_path):
    (record,), _ = read_json({**labelme_content("a.png", []), "imagePath": "old.png"})
    assert record["file_name"] == str(tmp_path / "images" / "a.png")


def test_an_image_that_is_only_in_the_json(read_json, tmp_path):
    pixels = (tmp_path / "images" / "b.png").read_bytes()
    content = {**labelme_content("a.png", []), "imagePath": "lost.png"}
    content["imageData"] = base64.b64encode(pixels).decode()
    del content["imageHeight"]
    (record,), _ = read_json(content)
    assert (record["height"], record["width"]) == (48, 64)
    expected = read_record_image({"file_name": str(tmp_path / "images" / "b.png")})
    assert np.array_equal(read_record_image(record), expected)
    _, report = read_json(json.dumps(content).replace("/", "\\/"))
    assert "'imageData' is escaped" in report.kinds["bad imageData"][1]


def test_files_that_are_no_labels(tmp_path, caplog):
    labelme(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "z.json").write_text("{")
    register_detection_dataset("parts", tmp_path, format="labelme")
    assert [len(r["annotations"]) for r in load_records("parts")] == [3, 3, 0]
    assert "1 x other json" in caplog.text and "1 x no valid json" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no json files"):
        read_labelme(str(tmp_path / "empty"), "", Report())


def test_a_single_json(tmp_path):
    labelme(tmp_path)
    register_detection_dataset("parts", tmp_path / "b.json")
    assert [len(r["annotations"]) for r in load_records("parts")] == [3]
