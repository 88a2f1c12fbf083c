"""Label files of what a client sends, which is checked before pycocotools decodes it."""

import io
import json
import zipfile

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pydantic import ValidationError

from glipv2_d2.errors import UsageError
from glipv2_d2.serve.labels import zipped
from glipv2_d2.serve.schemas import AskedLabels


def code(mask):
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return found["counts"].decode()


def asked(**fields):
    mask = {"size": [4, 6], "counts": code(np.ones((4, 6)))}
    found = {"phrase": "cat", "class_id": 0, "score": 0.5, "box": [0, 0, 6, 4], "mask": mask}
    given = {"format": "coco", "file": "a.jpg", "height": 4, "width": 6, "detections": [found]}
    for name, value in fields.items():
        *place, last = name.split("__")
        target = given if not place else found if place == ["found"] else mask
        target[last] = value
    return AskedLabels.model_validate(given)


@pytest.mark.parametrize(
    "fields",
    [
        {"mask__counts": code(np.ones((4, 7)))},
        {"mask__counts": "0" + "o" * 30},
        {"mask__counts": "\x7f\xe9"},
        {"mask__counts": ""},
        {"mask__counts": "0P2"},  # ends within a number
        {"mask__size": [4, 6, 1]},
        {"mask__size": [2, 12]},
    ],
)
def test_a_mask_that_is_refused(fields):
    with pytest.raises(UsageError, match="a mask is no run-length code of 4 x 6 pixels"):
        zipped(asked(**fields))


@pytest.mark.parametrize(
    "box",
    [[float("nan"), 0, 1, 1], [0, 0, float("inf"), 1], [3, 3, 1, 1], [-1, 0, 1, 1], [0, 0, 4, 6]],
)
def test_a_box_that_is_refused(box):
    with pytest.raises(UsageError, match=r"box: .* is not x1, y1, x2, y2 inside 4 x 6 pixels"):
        zipped(asked(found__box=box))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"found__box": [0, 0, 1]}, "at least 4 items"),
        ({"found__score": float("nan")}, "less than or equal to 1"),
        ({"file": "../../etc/passwd"}, "no name of a file"),
        ({"file": ".."}, "no name of a file"),
        ({"file": "a\x00b"}, "no name of a file"),
        ({"file": "é" * 101}, "more than 200 bytes"),
        ({"height": 0}, "greater than or equal to 1"),
        ({"path": "/tmp"}, "Extra inputs"),
    ],
)
def test_labels_that_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        asked(**fields)


def test_labels_as_they_should_be():
    with zipfile.ZipFile(io.BytesIO(zipped(asked()))) as files:
        (content,) = (json.loads(files.read(name)) for name in files.namelist())
    (annotation,) = content["annotations"]
    assert annotation["bbox"] == [0, 0, 6, 4] and annotation["segmentation"]["size"] == [4, 6]
    assert content["images"][0]["file_name"] == "a.jpg"
