import base64
import io
import json
import pickle

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from glipv2_d2.data import load_records, read_record_image, register_grounding_dataset
from glipv2_d2.data.datasets.glip_tsv import GlipTsvRecords
from glipv2_d2.data.report import RecordError
from glipv2_d2.errors import DataError
from tests.support.pretraining_files import (
    BOXES,
    CAPTION,
    HEIGHT,
    SPANS,
    WIDTH,
    caption_label,
    encoded_image,
    image_row,
    write_tsv,
)


def test_records(caption_tsv):
    records = GlipTsvRecords(str(caption_tsv))
    assert len(records) == 4 and records.has_captions
    record = records[0]
    assert record["caption"] == CAPTION and record["image_id"] == "img0"
    assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
    # Word pieces become the word that they are of.
    assert [a["spans"] for a in record["annotations"]] == [[[2, 13]], [[19, 29]]]
    assert [a["bbox"] for a in record["annotations"]] == BOXES
    assert {a["bbox_mode"] for a in record["annotations"]} == {BoxMode.XYXY_ABS}
    # One entry per phrase with a list of boxes; the one that scores 0.4 is left out.
    grouped = records[1]["annotations"]
    assert [(a["bbox"], a["spans"]) for a in grouped] == [
        (BOXES[0], [[2, 13]]),
        (BOXES[1], [[19, 29]]),
    ]
    assert records[3]["caption"][4:8] == "Café"
    assert pickle.loads(pickle.dumps(records))[3] == records[3]  # workers may be spawned


def test_images_are_those_of_the_rows(caption_tsv):
    records = GlipTsvRecords(str(caption_tsv), min_boxes=0)
    for i, record in enumerate(records):
        expected = np.asarray(Image.open(io.BytesIO(encoded_image(i))))
        assert (read_record_image(record, "RGB") == expected).all()


def test_score_and_number_of_boxes(caption_tsv):
    records = GlipTsvRecords(str(caption_tsv))
    with pytest.raises(RecordError, match=r"labels\.tsv: row 2 \(img2\): 0 boxes are left"):
        records[2]  # 0.5 is not above 0.5
    assert [r["image_id"] for r in records] == ["img0", "img1", "img3"]
    assert len(GlipTsvRecords(str(caption_tsv), min_score=0.2)[2]["annotations"]) == 1
    assert GlipTsvRecords(str(caption_tsv), min_boxes=0)[2]["annotations"] == []
    with pytest.raises(IndexError):
        records[4]


def test_the_index_is_made_where_it_is_missing(caption_tsv):
    expected = list(GlipTsvRecords(str(caption_tsv)))
    for name in ("images", "labels"):
        index = caption_tsv.with_name(f"{name}.lineidx")
        text = index.read_text()
        index.unlink()
        GlipTsvRecords(str(caption_tsv))
        assert index.read_text() == text
    assert list(GlipTsvRecords(str(caption_tsv))) == expected


def test_line_list_and_shared_images(tmp_path, caption_tsv):
    (tmp_path / "lines.tsv").write_text("3\n0\n0\n")
    caption_tsv.write_text("img: images.tsv\nlabel: labels.tsv\nlinelist: lines.tsv\n")
    assert [r["image_id"] for r in GlipTsvRecords(str(caption_tsv))] == ["img3", "img0", "img0"]
    # Several labels of one image: img_id -> its row, whatever the order.
    labels = [caption_label(CAPTION, BOXES, SPANS, [0.9, 0.9], img_id=f"img{i}") for i in (2, 2, 1)]
    labels.append(caption_label(CAPTION, BOXES, SPANS, [0.9, 0.9], img_id="none"))
    write_tsv(tmp_path / "labels.tsv", [[f"{i}", json.dumps(x)] for i, x in enumerate(labels)])
    (tmp_path / "ids.json").write_text(json.dumps({f"img{i}": i for i in range(4)}))
    caption_tsv.write_text("img: images.tsv\nlabel: labels.tsv\nimageid2idx: ids.json\n")
    records = GlipTsvRecords(str(caption_tsv))
    assert [records[i]["image_source"].key for i in range(3)] == ["img2", "img2", "img1"]
    assert len({records[i]["image_id"] for i in range(3)}) == 3
    assert (read_record_image(records[0]) == read_record_image(records[1])).all()
    with pytest.raises(RecordError, match="img_id 'none' is not in imageid2idx"):
        records[3]


@pytest.mark.parametrize(
    "size", ['[{"height": 60, "width": 80}]', '{"height": 60, "width": 80}', "60 80"]
)
def test_detection_labels(tmp_path, size):
    """As in the official Objects365 TSV."""
    write_tsv(tmp_path / "images.tsv", [image_row("7", 1), image_row("8", 2)])
    objects = [
        {"class": "dog", "rect": [1, 2, 30, 40], "conf": 1.0},
        {"class": "yeti", "rect": [1, 2, 30, 40]},
        {"class": "cat", "rect": [5, 5, 50, 50], "IsGroupOf": 1},
    ]
    write_tsv(
        tmp_path / "labels.tsv",
        [["7", json.dumps(objects)], ["8", json.dumps({"objects": objects[:1]})]],
    )
    write_tsv(tmp_path / "hw.tsv", [["7", size], ["8", size]])
    (tmp_path / "classes.json").write_text(json.dumps({"cat": 1, "dog": 3}))
    (tmp_path / "o365.yaml").write_text(
        "img: images.tsv\nlabel: labels.tsv\nhw: hw.tsv\nlabelmap: classes.json\n"
    )
    register_grounding_dataset("tiny_o365", str(tmp_path / "o365.yaml"), "", format="glip_tsv")
    records = load_records("tiny_o365")
    metadata = MetadataCatalog.get("tiny_o365")
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {1: 0, 3: 1}
    assert [a["category_id"] for a in records[0]["annotations"]] == [1, 0]
    assert [a["iscrowd"] for a in records[0]["annotations"]] == [0, 1]
    assert "caption" not in records[0] and records[1]["height"] == HEIGHT
    with pytest.raises(DataError, match=r"row 0 \(7\): objects\[1\].*'class' is 'yeti'"):
        load_records("tiny_o365", invalid="raise")


def bad_label(path, row, data):
    rows = [line.split(b"\t") for line in path.read_bytes().splitlines()]
    rows[row] = [rows[row][0], data]
    write_tsv(path, rows)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"{", "row 1 .img1.: the label is no valid json"),
        (b'{"caption": "a \xe9"}', "row 1 .img1.: the label is not UTF-8"),
        (b'"text"', "neither a caption nor a list of objects"),
        (json.dumps(caption_label(" ", [], [], [])).encode(), "'caption' is empty"),
        (
            json.dumps(caption_label(CAPTION, BOXES, SPANS[:1], [0.9, 0.9])).encode(),
            "2 'bboxes', 1 'tokens_positive' and 2 'scores'",
        ),
    ],
)
def test_bad_labels_are_left_out_and_counted(caption_tsv, caplog, damage, message):
    bad_label(caption_tsv.with_name("labels.tsv"), 1, damage)
    register_grounding_dataset("tiny_captions", str(caption_tsv), "", format="glip_tsv")
    assert [r["image_id"] for r in load_records("tiny_captions")] == ["img0", "img3"]
    lines = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert len(lines) == 1 and lines[0].startswith("data set 'tiny_captions': left out 2 records")
    with pytest.raises(DataError, match=message):
        load_records("tiny_captions", invalid="raise")


def test_spans_out_of_range_cost_their_box(caption_tsv):
    label = caption_label(CAPTION, [*BOXES, BOXES[0]], [*SPANS, [[20, 99]]], [0.9] * 3)
    bad_label(caption_tsv.with_name("labels.tsv"), 1, json.dumps(label).encode())
    register_grounding_dataset("tiny_captions", str(caption_tsv), "", format="glip_tsv")
    assert len(load_records("tiny_captions")[1]["annotations"]) == 2
    with pytest.raises(DataError, match=r"bboxes\[2\]: tokens_positive: span \[20, 99\).*range"):
        load_records("tiny_captions", invalid="raise")


def test_bad_offsets_and_images(caption_tsv):
    index = caption_tsv.with_name("labels.lineidx")
    offsets = index.read_text().split()
    for row, offset in ((0, "3"), (1, "99999"), (3, "-5")):
        index.write_text("\n".join([*offsets[:row], offset, *offsets[row + 1 :]]))
        with pytest.raises(RecordError, match=f"row {row}.*no row begins at byte"):
            GlipTsvRecords(str(caption_tsv))[row]
    index.write_text("0\nx\n9\n9\n")
    with pytest.raises(DataError, match=r"labels\.lineidx: not a byte offset a line.*'x'"):
        GlipTsvRecords(str(caption_tsv))
    index.write_text("\n".join(offsets))
    # An index of another file: the image row says its own key.
    images = caption_tsv.with_name("images.lineidx")
    rows = images.read_text().split()
    images.write_text("\n".join([rows[1], rows[0], *rows[2:]]))
    record = GlipTsvRecords(str(caption_tsv))[0]
    with pytest.raises(DataError, match=r"has the key 'img1', expected 'img0'"):
        read_record_image(record)
    unchecked = GlipTsvRecords(str(caption_tsv), check_keys=False)[0]
    assert read_record_image(unchecked).shape == (HEIGHT, WIDTH, 3)
    others = [image_row(f"img{i}", i) for i in (1, 2, 3)]
    no_image = base64.b64encode(b"no image")
    for data, message in ((b"???", "is no base64"), (no_image, "not an image")):
        write_tsv(caption_tsv.with_name("images.tsv"), [["img0", data], *others])
        with pytest.raises(ValueError, match=message):
            read_record_image(GlipTsvRecords(str(caption_tsv))[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no annotation file"),
        ("img: [", "no valid yaml"),
        ("- a", "GLIP's TSV format"),
        ("img: images.tsv\n", "'label' is missing"),
        ("img: images.tsv\nlabel: nowhere.tsv\n", "'nowhere.tsv' of the field 'label' is in none"),
        ("img: [images.tsv]\nlabel: labels.tsv\n", "'img' is .'images.tsv'., not one file name"),
    ],
)
def test_bad_yaml(caption_tsv, text, message):
    caption_tsv.unlink() if text is None else caption_tsv.write_text(text)
    with pytest.raises(DataError, match=message):
        GlipTsvRecords(str(caption_tsv))


@pytest.mark.parametrize("field", ["labelmap", "imageid2idx"])
@pytest.mark.parametrize("text", ["{", '["cat"]', '{"cat": "x"}'])
def test_bad_maps_are_named(caption_tsv, field, text):
    (caption_tsv.parent / "map.json").write_text(text)
    caption_tsv.write_text(f"img: images.tsv\nlabel: labels.tsv\n{field}: map.json\n")
    with pytest.raises(DataError, match=r"map\.json.*(no valid json|no json object)"):
        GlipTsvRecords(str(caption_tsv))
