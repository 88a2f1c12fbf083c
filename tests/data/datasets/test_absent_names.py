"""Names asked of images that hold some of them, and SA-Co's pairs of image and phrase."""

import json

import pytest
from detectron2.structures import BoxMode

from glipv2_d2.data.checks import check_records
from glipv2_d2.data.datasets.absent_names import load_absent_names, load_saco_json
from glipv2_d2.data.mappers.captions import evaluation_prompt
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError

NAMES = ["red star", "blue star", "red_ring", "green moon", "white cross", "cat"]


@pytest.fixture
def boxes_json(tmp_path):
    """A function of {image id: class numbers}, or of whole annotations: the path of a json."""

    def write(classes, **of_images):
        annotations = [
            {"image_id": i, "bbox": [10 * k, 10, 8, 8], "category_id": k + 1, "iscrowd": 0}
            if isinstance(k, int)
            else {"image_id": i, "bbox": [0, 10, 8, 8], **k}
            for i, of_image in classes.items()
            for k in of_image
        ]
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "height": 60, "width": 80, **of_images}
                for i in classes
            ],
            "annotations": [{"id": n, **a} for n, a in enumerate(annotations, 1)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)],
        }
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


def asked(record):
    """(names that are in the image, names that are not)."""
    names = set(evaluation_prompt(record, record["annotations"]).names)
    present = {record["caption"][slice(*a["spans"][0])] for a in record["annotations"]}
    return present, names - present


def test_half_of_the_names_are_absent_and_half_of_those_near_misses(boxes_json):
    path = boxes_json({i: [0, 0, 4] for i in range(1, 31)})
    records = load_absent_names(path, "images", "mine")
    drawn = [asked(record) for record in records]
    for record, (present, absent) in zip(records, drawn):
        assert present == {"red star", "white cross"} and len(record["annotations"]) == 3
        assert len(absent) == 2 and absent & {"blue star", "red ring"}
        assert record["dataset_name"] == "mine" and record["file_name"].startswith("images/")
    assert set().union(*(absent for _, absent in drawn)) == {
        "blue star", "red ring", "green moon", "cat"
    }  # fmt: skip
    assert records[0]["caption"] != records[1]["caption"]
    assert check_records(records, "mine") == records
    again = load_absent_names(boxes_json({5: [0, 0, 4]}), "images", "mine")
    assert again[0]["caption"] == records[4]["caption"]  # whatever images are beside it
    other = load_absent_names(path, "images", "mine", seed=1)
    assert [r["caption"] for r in other] != [r["caption"] for r in records]


def test_an_empty_image_and_a_full_one(boxes_json):
    empty, full = load_absent_names(boxes_json({1: [], 2: range(6)}), "", most_present=4)
    assert [len(names) for names in asked(empty)] == [0, 1]
    present, absent = asked(full)
    assert len(present) == 4 and not absent and len(full["annotations"]) == 4


def test_what_the_file_does_not_tell_is_not_asked(boxes_json):
    """A crowd of stars; rings, of which not all have boxes; what nobody looked for."""
    crowd = {"category_id": 2, "iscrowd": 1}
    path = boxes_json({1: [0, 2, crowd]}, neg_category_ids=[5], not_exhaustive_category_ids=[3])
    for seed in range(5):
        (record,) = load_absent_names(path, "", seed=seed)
        assert asked(record) == ({"red star"}, {"white cross"})


def saco(tmp_path, images, annotations):
    path = tmp_path / "gold.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    path.write_text(json.dumps(content))
    return str(path)


def image(number, phrase, **fields):
    size = {"height": 50, "width": 200, "file_name": "a/1.jpeg"}
    return {"id": number, "text_input": phrase, **size, **fields}


def test_sacos_pairs(tmp_path, caplog):
    mask = {"size": [50, 200], "counts": "0"}
    boxes = [
        {"id": 1, "image_id": 7, "bbox": [0.25, 0.5, 0.5, 0.25], "segmentation": mask},
        {"id": 2, "image_id": 7, "bbox": [0.0, 0.0, 1.0, 1.0], "iscrowd": 1, "area": 1.0},
    ]
    images = [
        image(7, "the fish ball", is_instance_exhaustive=1),
        image(8, "chili", is_instance_exhaustive=1),
        image(9, "people", is_instance_exhaustive=0),
    ]
    caplog.set_level("INFO", logger="glipv2_d2")
    first, second = load_saco_json(saco(tmp_path, images, boxes), "images", "gold")
    assert first["file_name"] == "images/a/1.jpeg" and first["image_id"] == 7
    assert evaluation_prompt(first, first["annotations"]).names == ("the fish ball",)
    box, crowd = first["annotations"]
    assert box["bbox"] == [50, 25, 100, 12.5] and box["bbox_mode"] == BoxMode.XYWH_ABS
    assert box["segmentation"] == mask and crowd["iscrowd"] == 1
    assert second["annotations"] == [] and second["phrases"] == [[[0, 5]]]
    assert "2 of 3 pairs of image and phrase" in caplog.text


@pytest.mark.parametrize(
    ("phrase", "box", "message"),
    [
        ("  ", [0, 0, 1, 1], "the field 'text_input' is '  '"),
        ("cat", [10, 0, 50, 50], "'bbox' is no x, y, w, h as parts of the image"),
        ("cat", [0, 0, 1], "'bbox' is no x, y, w, h as parts of the image"),
    ],
)
def test_what_is_no_saco_json(tmp_path, phrase, box, message):
    boxes = [{"id": 1, "image_id": 7, "bbox": box}]
    path = saco(tmp_path, [image(7, phrase)], boxes)
    with pytest.raises(DataError, match=message):
        load_saco_json(path, "images", "gold", report=Report(path, "raise"))
