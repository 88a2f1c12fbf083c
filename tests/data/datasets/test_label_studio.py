"""Label Studio's json: regions, several annotations, names of images, what is not read."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest

from glipv2_d2.data import load_records, register_detection_dataset
from glipv2_d2.data.datasets.label_studio import read_label_studio
from glipv2_d2.data.report import Report
from tests.support.detection_exports import label_studio, region, size_of, task, write_images

BOX = (0, 5, 5, 20, 30)
# By Label Studio's own converter (`label_studio_sdk.converter.brush.mask2rle`, 2.1.2): 3 rows from
# (20, 10) of 6 pixels, a pixel at (40, 11), and one of alpha 100.
PAINTED = [
    0, 0, 75, 0, 57, 27, 255, 12, 207, 0, 194, 255, 252, 4, 156, 3, 11, 255, 227, 112, 8, 255, 247,
    88, 6, 23, 255, 226, 209, 224, 17, 178, 114, 80, 48, 0,
]  # fmt: skip


@pytest.fixture
def read_tasks(tmp_path):
    """read_tasks(tasks) -> (records, report)."""
    write_images(tmp_path)

    def _read(*tasks):
        path = tmp_path / "export.json"
        path.write_text(json.dumps(tasks))
        report = Report()
        return list(read_label_studio(str(path), str(tmp_path), report).records), report

    return _read


def one(read_tasks, **value):
    """The annotations of a task with this region, and the report."""
    records, report = read_tasks(task(1, "a.png", [value]))
    return records[0]["annotations"], report


def test_a_rotated_rectangle_is_the_box_around_it(read_tasks):
    """90 degrees about its upper left corner (40, 15): it goes down and to the left."""
    (found,), _ = one(read_tasks, **{**region("a.png", 0, 40, 15, 20, 10), "rotation": 90})
    assert found["bbox"] == [30, 15, 10, 20] and "segmentation" not in found


def test_what_the_brush_has_painted_is_a_mask(read_tasks):
    (found,), report = one(read_tasks, format="rle", rle=PAINTED, brushlabels=["nut"])
    assert found["bbox"] == [20, 10, 21, 3] and not report.kinds
    expected = np.zeros((60, 80), dtype=bool)
    expected[10:13, 20:26] = expected[11, 40] = True
    assert np.array_equal(mask_util.decode(found["segmentation"]), expected)


def test_a_polygon_and_an_ellipse_are_masks(read_tasks):
    (found,), _ = one(read_tasks, points=[[10, 10], [50, 10], [50, 50]], polygonlabels=["nut"])
    assert found["segmentation"] == [[8, 6, 40, 6, 40, 30]] and found["bbox"] == [8, 6, 32, 24]
    (found,), _ = one(
        read_tasks, x=50, y=50, radiusX=25, radiusY=50, rotation=0, ellipselabels=["nut"]
    )
    assert found["bbox"] == [20, 0, 40, 60] and len(found["segmentation"][0]) == 72


def test_shape_and_labels_in_two_entries_are_one_region(read_tasks):
    """As <Rectangle> with <Labels> writes them; a region with two labels is two objects."""
    box = region("a.png", *BOX)
    del box["rectanglelabels"]
    given = task(1, "a.png", [box, {**box, "labels": ["nut", "bolt"]}, {"choices": ["sharp"]}])
    results = given["annotations"][0]["result"]
    results[1]["id"] = results[0]["id"]
    records, report = read_tasks(given)
    labels = [a["label"] for a in records[0]["annotations"]]
    assert labels == ["nut", "bolt"] and not report.kinds


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({"imageDataURL": "data:", "bitmasklabels": ["nut"]}, "bitmap",
         "export the project as COCO"),
        ({"format": "rle", "rle": [0, 1], "brushlabels": ["nut"]}, "bad annotation",
         "ends too early"),
        ({"format": "rle", "rle": PAINTED[:20], "brushlabels": ["nut"]}, "bad annotation",
         "ends too early"),
        ({"format": "rle", "rle": [0, 0, 0, 16, 57, 27, 252, 127, 243, 128, 71, 254],
          "brushlabels": ["nut"]}, "bad annotation", "16 values, an image of 80x60 four each"),
        ({"format": "rle", "rle": [0, 0, 75, 0, 57, 27, 255, 74, 255, 0, 0],
          "brushlabels": ["nut"]}, "empty mask", "nothing is painted"),
        ({"format": "rle", "rle": PAINTED}, "region without a label", ""),
        ({"x": 5, "y": 5, "width": 1, "keypointlabels": ["nut"]}, "region without a label", ""),
        ({"x": 5, "y": 5, "width": 1, "labels": ["nut"]}, "shape without a box", "it is a point"),
        ({"x": 5, "y": 5, "width": 1, "height": 1}, "region without a label", "it has only"),
        ({"x": None, "y": 5, "width": 1, "height": 1, "labels": ["nut"]}, "bad annotation", ""),
        ({"points": [[1, 1], [2, 2]], "polygonlabels": ["nut"]}, "bad annotation", "three points"),
    ],
)  # fmt: skip
def test_a_region_that_cannot_be_used(read_tasks, value, kind, message):
    found, report = one(read_tasks, **value)
    assert found == [] and report.annotations == 1
    assert "task 1: region 0: " in report.kinds[kind][1] and message in report.kinds[kind][1]


def test_predictions_are_read_where_they_are_asked_for(read_tasks, tmp_path):
    """Else a task that has nothing else is one that nobody has labeled, not one without objects."""
    found = task(1, "a.png", [region("a.png", *BOX)])
    found["predictions"] = found.pop("annotations")
    records, report = read_tasks(found)
    assert records == [] and "predictions=True" in report.kinds["task without annotation"][1]
    path, root = str(tmp_path / "export.json"), str(tmp_path)
    (record,) = read_label_studio(path, root, Report(), predictions=True).records
    assert [a["bbox"] for a in record["annotations"]] == [[5, 5, 20, 30]]


def test_an_image_that_was_turned_in_the_editor(read_tasks):
    given = task(1, "a.png", [region("a.png", *BOX)])
    given["annotations"][0]["result"][0]["image_rotation"] = 90
    records, report = read_tasks(given)
    assert not records[0]["annotations"] and "turn the file" in report.kinds["turned image"][1]


def annotations(*versions):
    """A task of a.png with several annotations, each of so many boxes."""
    given = task(1, "a.png", [])
    given["annotations"] = [
        {**task(1, "a.png", [region("a.png", *BOX)] * count)["annotations"][0], **fields}
        for count, fields in versions
    ]
    return given


@pytest.mark.parametrize(
    ("versions", "count"),
    [
        ([(1, {"created_at": "2024-05-06"}), (2, {"created_at": "2023-01-01"})], 1),
        ([(1, {"created_at": "2024-05-06"}), (2, {"ground_truth": True})], 2),
        ([(1, {"was_cancelled": True}), (2, {"created_at": "2023-01-01"})], 2),
        ([(0, {})], 0),  # nothing is there, says somebody
    ],
)
def test_one_of_several_annotations_is_used(read_tasks, versions, count):
    records, report = read_tasks(annotations(*versions))
    assert len(records[0]["annotations"]) == count and not report.kinds
    told = "1 tasks have several annotations"
    alone = any("was_cancelled" in fields for _, fields in versions) or len(versions) == 1
    assert any(told in warning for warning in report.warnings) != alone


def test_tasks_that_nobody_labeled_are_left_out_as_no_fault(read_tasks):
    skipped, empty = annotations((1, {"was_cancelled": True})), annotations()
    records, report = read_tasks(skipped, {**empty, "id": 2}, {**annotations((1, {})), "id": 3})
    assert len(records) == 1 and report.records == 2
    assert report.no_faults == {"task without annotation"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "mode", "raise")
        report.record("task without annotation", "task 1", "it was skipped", fault=False)


def test_completions_of_old_versions(read_tasks):
    old = task(1, "a.png", [region("a.png", *BOX)])
    old["completions"] = [{**old.pop("annotations")[0], "skipped": False}]
    records, _ = read_tasks(old)
    assert records[0]["annotations"][0]["bbox"] == [5, 5, 20, 30]


def test_json_min_has_an_entry_an_annotation(read_tasks):
    def entry(created, *boxes):
        regions = [{**region("a.png", *box), **size_of("a.png")} for box in boxes]
        return {"image": "a.png", "id": 1, "label": regions, "created_at": created}

    records, report = read_tasks(entry("2024-01-01", BOX), entry("2024-01-02", BOX, BOX))
    assert [len(r["annotations"]) for r in records] == [2]
    assert "1 tasks have several annotations" in report.warnings[0]


@pytest.mark.parametrize(
    "url",
    [
        "/data/upload/7/0a1b2c3d-a.png",  # of the image as it was before it was uploaded
        "/data/local-files/?d=photos/x%20y/a.png",
        "/data/local-files/?d=photos\\a.png",
        "s3://bucket/photos/a.png",
        "https://example.com/photos/a.png?token=1",
        "a.png",
        "C:\\photos\\a.png",
    ],
)
def test_an_image_is_found_by_its_address(read_tasks, tmp_path, url):
    records, report = read_tasks(task(1, "a.png", [], data={"photo": url, "note": "a text."}))
    assert records[0]["file_name"] == str(tmp_path / "a.png") and not report.kinds


def test_a_task_that_names_not_one_image(read_tasks):
    two = task(1, "a.png", [], data={"left": "a.png", "right": "b.png"})
    records, report = read_tasks(two, task(2, "a.png", [], data={"text": "words"}), "no task")
    assert not records
    assert "task 1: it names 2 images" in report.kinds["not one image"][1]
    assert report.kinds["not one image"][0] == 2 and report.kinds["no json object"][0] == 1


def test_a_class_that_occurs_in_no_region(tmp_path):
    register_detection_dataset("parts", label_studio(tmp_path), classes=["nut", "cog"])
    assert sum(len(r["annotations"]) for r in load_records("parts")) == 3
