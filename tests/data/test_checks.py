import logging

import numpy as np
import pytest
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from glipv2_d2.data.checks import check_records, run_lengths
from glipv2_d2.errors import DataError

NAN = float("nan")
RANDOM = np.random.default_rng(0)


def detection(bbox, category=0, mode=BoxMode.XYWH_ABS, **fields):
    annotation = {"bbox": bbox, "bbox_mode": mode, "category_id": category, "iscrowd": 0, **fields}
    return [
        {
            "file_name": "a/b.jpg",
            "height": 60,
            "width": 80,
            "image_id": 7,
            "annotations": [annotation],
        }
    ]


def grounding(spans, caption="a hotdog and a cat"):
    records = detection([1, 1, 5, 5])
    records[0]["caption"] = caption
    records[0]["annotations"][0] = {
        "bbox": [1, 1, 5, 5],
        "bbox_mode": BoxMode.XYWH_ABS,
        "spans": spans,
    }
    return records


def test_good_records_are_returned_as_they_are():
    for records in (
        detection([0, 0, 80, 60]),
        detection([0, 0, 80, 60], mode=BoxMode.XYXY_ABS),
        grounding([[2, 8], [15, 18]]),
        [{"file_name": "a.jpg", "height": 1, "width": 1, "image_id": 0}],
    ):
        assert check_records(records, "set", num_classes=1) == records


@pytest.mark.parametrize(
    ("bbox", "mode", "message"),
    [
        ([80, 0, 5, 5], BoxMode.XYWH_ABS, "wholly outside its 80x60 image"),
        ([-5, 0, 5, 5], BoxMode.XYWH_ABS, "wholly outside"),
        ([0, 60, 9, 70], BoxMode.XYXY_ABS, "wholly outside"),
        ([1, NAN, 5, 5], BoxMode.XYWH_ABS, "NaN"),
        ([1, 1, float("inf"), 5], BoxMode.XYWH_ABS, "NaN or infinity"),
        ([1, 1, -5, 5], BoxMode.XYWH_ABS, "reversed"),
        ([9, 1, 5, 5], BoxMode.XYXY_ABS, "reversed"),
        ([1, 1, 0, 5], BoxMode.XYWH_ABS, "no area"),
        ([1, 1, 5], BoxMode.XYWH_ABS, "four numbers"),
        ([1, 1, 5, "x"], BoxMode.XYWH_ABS, "four numbers"),
        (None, BoxMode.XYWH_ABS, "four numbers"),
        ([1, 1, 5, 5], BoxMode.XYWHA_ABS, "bbox_mode"),
    ],
)
def test_bad_boxes(bbox, mode, message):
    with pytest.raises(DataError, match=message) as error:
        check_records(
            detection(bbox, mode=mode, id=42), "set", source="train.json", invalid="raise"
        )
    for part in ("train.json", "image 7", "a/b.jpg", "annotation 0 (id 42)", "invalid='drop'"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("bbox", "mode", "expected"),
    [
        ([-5, 10, 20, 100], BoxMode.XYWH_ABS, [0, 10, 15, 50]),
        ([-5, 10, 20, 100], BoxMode.XYXY_ABS, [0, 10, 20, 60]),
    ],
)
def test_partly_outside_is_clipped_and_counted(bbox, mode, expected, caplog):
    records = detection(bbox, mode=mode)
    with caplog.at_level(logging.WARNING):
        checked = check_records(records, "set")
    assert checked[0]["annotations"][0]["bbox"] == expected
    assert records[0]["annotations"][0]["bbox"] == bbox  # the caller's records stay
    assert "boxes clipped at the border of their image: 1" in caplog.text


@pytest.mark.parametrize(
    ("category", "message"), [(3, "3 is unknown"), (-1, "unknown"), (None, "integer")]
)
def test_unknown_class(category, message):
    with pytest.raises(DataError, match=message):
        check_records(detection([1, 1, 5, 5], category), "set", num_classes=3, invalid="raise")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([[2, 5]], "inside a word"),
        ([[15, 19]], "out of range"),
        ([[8, 2]], "reversed"),
        ([[2]], "not a pair"),
        ([], "belongs to no phrase"),
        (None, "belongs to no phrase"),
    ],
)
def test_bad_spans(spans, message):
    with pytest.raises(DataError, match=message) as error:
        check_records(grounding(spans), "set", source="train.json", invalid="raise")
    assert "tokens_positive" in str(error.value) and "image 7" in str(error.value)


def test_dropped_and_counted_in_one_line(caplog):
    records = detection([1, 1, 0, 5]) + detection([1, 1, 5, 5]) + detection([1, 1, 5, 5])
    records[0]["annotations"] += detection([1, 1, 5, 5])[0]["annotations"]
    records[0]["annotations"] += detection([3, 3, 0, 5])[0]["annotations"]
    del records[2]["height"]
    with caplog.at_level(logging.WARNING):
        checked = check_records(records, "set", source="train.json")
    assert [len(record["annotations"]) for record in checked] == [1, 1]
    assert len(records[0]["annotations"]) == 3  # the caller's
    assert len(caplog.records) == 1
    line = caplog.records[0].getMessage()
    assert "left out 1 record and 2 annotations" in line
    assert "2 x box without area (first: train.json (set): image 7 (a/b.jpg), annotation 0" in line
    assert "1 x missing field (first: train.json (set): image 7 (a/b.jpg): the field" in line
    with pytest.raises(ValueError, match="invalid must be"):
        check_records(records, "set", invalid="ignore")


def test_bad_records(tmp_path):
    def check(records, message):
        for options in ({"invalid": "raise"}, {"drop_records": False}):
            with pytest.raises(DataError, match=message):
                check_records(records, "set", **options)
        nothing_left = f"no images that can be used: left out 1 record: .*{message}"
        with pytest.raises(DataError, match=nothing_left):
            check_records(records, "set")

    with pytest.raises(DataError, match="no images"):
        check_records([], "set")
    records = detection([1, 1, 5, 5])
    del records[0]["height"]
    check(records, "'height' is missing")
    records[0]["height"] = "60"
    check(records, "'height' is '60'")
    check(grounding([[0, 1]], caption=" "), "'caption' is empty")
    check(grounding([[0, 1]], caption=None), "'caption' is empty")
    records = grounding([[0, 1]])
    for phrases, message in (
        ([[[0, 99]]], r"image 7.*tokens_positive_eval.*out of range"),
        ([[]], "a phrase has no span"),
        ([[[0]]], "not a pair"),
    ):
        records[0]["phrases"] = phrases
        check(records, message)


def test_a_caption_that_is_not_utf8():
    caption = b"a caf\xe9 table".decode("utf-8", "surrogateescape")
    records = grounding([[0, 1]], caption=caption) + grounding([[0, 1]])
    with pytest.raises(DataError, match="'caption' is not UTF-8"):
        check_records(records, "set", invalid="raise")
    assert len(check_records(records, "set")) == 1


@pytest.mark.parametrize("answers", [None, ["red"], {"red": 2}, {"red": "1"}, {"red": -0.1}])
def test_answers_without_scores(answers):
    (question,) = grounding([[2, 8]])
    question |= {"task": "question", "answers": answers}
    with pytest.raises(DataError, match="'answers' gives each answer a score from 0 to 1"):
        check_records([question], "tiny", invalid="raise")
    question["answers"] = {"red": 1, "pink": 0.3, "": 0}
    assert check_records([question], "tiny", invalid="raise") == [question]


def test_missing_files_are_found_if_asked(tmp_path):
    records = detection([1, 1, 5, 5])
    check_records(records, "set")
    with pytest.raises(DataError, match=r"a/b\.jpg.*does not exist"):
        check_records(records, "set", check_files=True)
    (tmp_path / "a.jpg").write_bytes(b"")
    there = {**records[0], "file_name": str(tmp_path / "a.jpg")}
    assert check_records([*records, there], "set", check_files=True) == [there]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[5, 5, 25, 5, 25, None]], "no list of at least three corners"),
        ([[5, 5, 25, 5, 25, float("nan")]], "no list of at least"),
        ([[5, 5, 25, 5, 25, 1e9]], "in or near the image"),  # pycocotools would take all memory
        ([[5, 5, 25, 5]], "at least three corners"),
        ([[5, 5, 25, 5, 25, 9, 3]], "at least three corners"),
        ([5, 5, 25, 5, 25, 9], "at least three corners"),
        ("abc", "neither polygons nor RLE"),
        ({"size": [80, 60], "counts": [4800]}, r"size \[80, 60\], its image \[60, 80\]"),
        ({"size": [60, 80], "counts": [4000]}, "do not add up to the 4800 pixels"),
        ({"size": [60, 80], "counts": [5000, -200]}, "do not add up"),
        ({"size": [60, 80], "counts": None}, "the counts are None"),
        ({"size": [60, 80], "counts": "A"}, "the counts 'A' are no code of the 4800 pixels"),
        ({"size": [60, 80], "counts": b"P\\"}, "are no code of the 4800 pixels"),
        ({"size": [60, 80], "counts": "é"}, "are no code of the 4800 pixels"),
    ],
)
def test_masks_that_cannot_be_drawn(mask, message):
    with pytest.raises(DataError, match=f"segmentation.*{message}"):
        check_records(detection([1, 1, 5, 5], segmentation=mask), "set", invalid="raise")


@pytest.mark.parametrize(
    "mask",
    [RANDOM.random((30, 40)) < 0.5, np.zeros((5, 7)), np.ones((300, 200)), np.eye(90)],
    ids=["noise", "nothing", "all", "diagonal"],
)
def test_run_lengths_are_those_that_pycocotools_wrote(mask):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    flat = mask.astype(np.uint8).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    expected = ([0] if flat[0] else []) + np.diff([0, *changes, len(flat)]).tolist()
    assert run_lengths(code["counts"]) == run_lengths(code["counts"].decode()) == expected
    height, width = mask.shape
    record = detection([1, 1, 3, 3], segmentation=code)[0] | {"height": height, "width": width}
    check_records([record], "set", invalid="raise")


def test_a_polygon_that_cannot_be_drawn_costs_no_box(caplog):
    good, line = [5, 5, 25, 5, 25, 9], [5, 5, 25, 5]
    records = detection([1, 1, 5, 5], segmentation=[good, line]) + detection(
        [1, 1, 5, 5], segmentation=[line]
    )
    first, second = (r["annotations"] for r in check_records(records, "set"))
    assert [a["segmentation"] for a in first] == [[good]]
    assert [("bbox" in a, "segmentation" in a) for a in second] == [(True, False)]
    assert "left out 2 masks: 2 x bad mask" in caplog.text
    assert records[0]["annotations"][0]["segmentation"] == [good, line]  # a copy was changed


@pytest.mark.parametrize(
    "mask", [[[-9, 5, 90, 5, 25, 9]], {"size": [60, 80], "counts": [100, 4700]}, None, []]
)
def test_masks_that_can(mask):
    records = detection([1, 1, 5, 5], segmentation=mask)
    assert check_records(records, "set", invalid="raise") == records


def test_a_size_is_needed_where_boxes_are_known():
    record = {"file_name": "a.jpg", "image_id": 0, "task": "caption", "caption": "a dog"}
    assert check_records([record], "set") == [record]
    with pytest.raises(DataError, match="'height' is missing"):
        check_records([{**record, "annotations": []}], "set", invalid="raise")
    with pytest.raises(DataError, match="'width' is 0"):
        check_records([{**record, "width": 0}], "set", invalid="raise")


def task(**fields):
    base = {"file_name": "a.jpg", "height": 60, "width": 80, "image_id": 7}
    return [{**base, **fields}]


def test_questions_and_captions_without_boxes_are_sound():
    for fields in (
        {"task": "question", "caption": "why? [MASK]", "answers": {"so": 1.0, "": 0, "2": 0.3}},
        {"task": "question", "caption": "why?"},
        {"task": "caption", "caption": "a star"},
        {"task": "caption", "references": []},
    ):
        assert check_records(task(**fields), "set") == task(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "vqa", "caption": "why?"}, r"'task' is 'vqa', which is none of \['question', 'c"),
        ({"task": None, "caption": "why?"}, "'task' is None"),
        ({"task": "question"}, "'caption', the question, is missing"),
        ({"task": "question", "caption": "[MASK]"}, "'caption' is empty"),
        ({"task": "question", "caption": 7}, "'caption' is empty"),
        ({"task": "caption", "caption": " "}, "'caption' is empty"),
        ({"task": "question", "caption": "why?", "answers": ["so"]}, "score from 0 to 1.*'so'"),
        ({"task": "question", "caption": "why?", "answers": {"so": 1.2}}, r"\('so', 1.2\)"),
        ({"task": "question", "caption": "why?", "answers": {"so": "1"}}, r"\('so', '1'\)"),
        ({"task": "question", "caption": "why?", "answers": {"so": NAN}}, r"\('so', nan\)"),
    ],
)
def test_questions_and_captions_that_are_refused(fields, message):
    with pytest.raises(DataError, match=message):
        check_records(task(**fields), "set", invalid="raise")
