import json

import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from glipv2_d2.data import load_records, register_grounding_dataset
from glipv2_d2.data.datasets.odvg import load_odvg
from glipv2_d2.errors import DataError

CAPTION = "Two dogs play with a red ball near the Dogs' house"


def detection(name, *instances, **fields):
    """A line as coco2odvg writes it."""
    return {
        "filename": name,
        "height": 60,
        "width": 80,
        "detection": {"instances": list(instances)},
        **fields,
    }


def instance(label, category, bbox=(1, 2, 30, 40)):
    return {"bbox": list(bbox), "label": label, "category": category}


def grounding(name, *regions, caption=CAPTION):
    return {
        "filename": name,
        "height": 60,
        "width": 80,
        "grounding": {"caption": caption, "regions": list(regions)},
    }


def region(phrase, bbox=(1, 2, 30, 40), **fields):
    return {"bbox": list(bbox), "phrase": phrase, **fields}


@pytest.fixture
def write_odvg(tmp_path):
    def lines(*entries):
        text = [json.dumps(e) if isinstance(e, dict) else e for e in entries]
        (tmp_path / "odvg.jsonl").write_bytes(
            b"".join((t if isinstance(t, bytes) else t.encode()) + b"\n" for t in text)
        )
        return str(tmp_path / "odvg.jsonl")

    return lines


def test_detection_with_a_label_map(write_odvg, tmp_path):
    (tmp_path / "names.json").write_text('{"0": "person", "1": "cat", "2": "dog"}')
    path = write_odvg(
        detection("a.jpg", instance(2, "dog"), instance(0, "person")),
        detection("b.jpg"),
    )
    register_grounding_dataset(
        "tiny_odvg", path, "images", format="odvg", reader_options={"label_map": "names.json"}
    )
    records = load_records("tiny_odvg")
    assert records[0]["file_name"] == "images/a.jpg" and "caption" not in records[0]
    assert [a["category_id"] for a in records[0]["annotations"]] == [2, 0]
    assert records[0]["annotations"][0]["bbox_mode"] == BoxMode.XYXY_ABS
    assert records[1]["annotations"] == []
    assert MetadataCatalog.get("tiny_odvg").thing_classes == ["person", "cat", "dog"]


def test_names_from_the_lines(write_odvg):
    path = write_odvg(detection("a.jpg", instance(7, "dog"), instance(3, "cat")))
    records = load_odvg(path, "", "tiny_odvg")
    assert [a["category_id"] for a in records[0]["annotations"]] == [1, 0]
    metadata = MetadataCatalog.get("tiny_odvg")
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_grounding(write_odvg):
    path = write_odvg(
        grounding(
            "a.jpg",
            region("dogs", bbox=[[1, 2, 30, 40], [5, 5, 50, 50]]),
            region("red ball", tokens_positive=[[21, 24], [25, 29]]),
            region(["red", "ball"]),
        )
    )
    record = load_odvg(path, "")[0]
    assert record["caption"] == CAPTION
    spans = [annotation["spans"] for annotation in record["annotations"]]
    assert spans == [[[4, 8]], [[4, 8]], [[21, 24], [25, 29]], [[21, 24], [25, 29]]]
    assert record["annotations"][1]["bbox"] == [5, 5, 50, 50]


def test_both_kinds_in_one_file(write_odvg):
    path = write_odvg(
        detection("a.jpg", instance(0, "dog")), grounding("b.jpg", region("red ball"))
    )
    register_grounding_dataset("tiny_odvg", path, "", format="odvg")
    records = load_records("tiny_odvg")
    assert ["caption" in r for r in records] == [False, True]
    assert [r["image_id"] for r in records] == [1, 2]  # the number of the line


BAD_LINES = [
    ("{", "line 2: the line is no valid json"),
    ("[]", "line 2: the line is no json object"),
    ({"filename": "a.jpg", "height": 1}, "line 2 .a.jpg.: the field 'width' is missing"),
    ({"filename": "a.jpg", "height": 1, "width": 1}, "'detection' or 'grounding'"),
    ({**detection("a.jpg"), **grounding("a.jpg")}, "'detection' or 'grounding'"),
    (grounding("a.jpg", caption=" "), "grounding.caption is missing or empty"),
    (
        json.dumps(grounding("a.jpg", caption="x@y")).encode().replace(b"@", b"\xe9"),
        "grounding.caption is not UTF-8",
    ),
]
BAD_PARTS = [
    (detection("a.jpg", instance(9, None)), r"detection.instances\[0\].*'label' is 9"),
    (detection("a.jpg", instance(0, "cat")), "label 0 is 'dog' in the label map, but 'category'"),
    (grounding("a.jpg", region("cat")), r"grounding.regions\[0\].*'cat' does not occur"),
    (grounding("a.jpg", region("do")), "'do' does not occur"),
    (grounding("a.jpg", region("")), "does not occur"),
    (grounding("a.jpg", region("dogs", bbox=())), "'bbox' is missing or empty"),
]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("line", "message"), BAD_LINES + BAD_PARTS)
def test_bad_lines(write_odvg, caplog, line, message, lazy):
    path = write_odvg(
        detection("x.jpg", instance(0, "dog")), line, grounding("y.jpg", region("dogs"))
    )
    options = {"label_map": {"0": "dog"}, "lazy": lazy}
    register_grounding_dataset("tiny_odvg", path, "", format="odvg", reader_options=options)
    records = load_records("tiny_odvg")
    whole = (line, message) in BAD_LINES
    assert len(records) == (2 if whole else 3)
    assert sum(len(r["annotations"]) for r in records) == 2
    assert len(caplog.records) == 1
    kind = "record" if whole else "annotation"
    assert f"'tiny_odvg': left out 1 {kind}: 1 x " in caplog.records[0].getMessage()
    with pytest.raises(DataError, match=message):
        load_records("tiny_odvg", invalid="raise")


def test_lazy_lines_are_the_same(write_odvg):
    path = write_odvg(
        detection("a.jpg", instance(1, "cat")),
        grounding("b.jpg", region("red ball")),
        grounding("c.jpg", region("dogs")),
    )
    options = {"label_map": {"0": "dog", "1": "cat"}}
    assert list(load_odvg(path, "im", lazy=True, **options)) == load_odvg(path, "im", **options)


def test_bad_files(write_odvg, tmp_path):
    with pytest.raises(DataError, match="no annotation file"):
        load_odvg(str(tmp_path / "none.jsonl"), "")
    path = write_odvg(detection("a.jpg", instance(0, "dog")))
    with pytest.raises(DataError, match="there is no label map"):
        load_odvg(path, "", label_map="none.json")
    for text, message in (("{", "no valid json"), ("{}", "not empty"), ('{"a": "b"}', "numbers")):
        (tmp_path / "map.json").write_text(text)
        with pytest.raises(DataError, match=message):
            load_odvg(path, "", label_map="map.json")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_byte_order_mark(write_odvg, lazy):
    path = write_odvg(b"\xef\xbb\xbf" + json.dumps(grounding("a.jpg", region("red ball"))).encode())
    (record,) = load_odvg(path, "", lazy=lazy)
    assert len(record["annotations"]) == 1


def test_an_index_of_an_older_file_is_told(write_odvg, caplog):
    lines = [grounding(f"{i}.jpg", region("red ball")) for i in range(3)]
    path = write_odvg(*lines[:2])
    assert len(load_odvg(path, "", lazy=True)) == 2  # makes the index
    assert len(load_odvg(path, "", lazy=True)) == 2 and "index was made" not in caplog.text
    for changed in (lines, lines[:1], [grounding("longer.jpg"), lines[1]]):
        caplog.clear()
        load_odvg(write_odvg(*changed), "", lazy=True)
        assert "odvg.lineidx says: was the file changed after its index was made" in caplog.text
