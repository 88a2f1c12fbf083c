import json
import os

import numpy as np
import pytest
from detectron2.structures import BoxMode

from glipv2_d2.data import load_records, read_record_image, register_grounding_dataset
from glipv2_d2.data.datasets import tar_index
from glipv2_d2.data.datasets.tar_shards import load_tar_shards
from glipv2_d2.data.report import RecordError
from glipv2_d2.errors import DataError
from tests.support.making import (
    BOXES,
    CAPTION,
    HEIGHT,
    SPANS,
    WIDTH,
    caption_label,
    encoded_image,
    write_tar,
)


def load(shards, **options):
    return load_tar_shards(str(shards / "*.tar"), **options)


def test_records(shards):
    records = load(shards)
    assert len(records) == 5
    for i, record in enumerate(records):
        assert record["caption"] == CAPTION
        assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
        assert [a["bbox"] for a in record["annotations"]] == BOXES
        assert [a["spans"] for a in record["annotations"]] == [[[2, 13]], [[19, 29]]]
        assert record["annotations"][0]["bbox_mode"] == BoxMode.XYXY_ABS
        assert read_record_image(record).shape == (HEIGHT, WIDTH, 3)
        assert record["image_id"].endswith(f"{i:04d}")
    assert len({r["image_id"] for r in records}) == 5


def test_the_same_as_webdataset_reads(shards):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    ours = list(load(shards))
    assert len(theirs) == len(ours)
    for sample, record in zip(theirs, ours):
        assert record["file_name"].endswith(sample["__key__"])
        assert record["caption"] == sample["txt"]
        assert (read_record_image(record, "RGB") == sample["jpg"]).all()
        boxes = [a["bbox"] for a in record["annotations"]]
        assert boxes == sample["json"]["bboxes"]


def test_the_index_is_kept_and_renewed(shards, monkeypatch):
    expected = list(load(shards))
    assert len(list(shards.glob("*.index.npy"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "_scan", lambda path: pytest.fail("read again"))
        assert list(load(shards)) == expected
    shard = shards / "00001.tar"
    write_tar(shard, good("x"))
    os.utime(shards / "00001.tar.index.npy", (1, 1))
    assert [r["file_name"].split(":")[-1] for r in load(shards)][3:] == ["x"]
    (shards / "00001.tar.index.npy").write_bytes(b"damaged")
    assert len(load(shards)) == 4


def test_long_names_folders_and_other_members(tmp_path):
    key = "folder.with.dots/" + "k" * 150
    label = json.dumps(caption_label(CAPTION, BOXES, SPANS, [1, 1])).encode()
    write_tar(
        tmp_path / "a.tar",
        [
            ("README", b"no sample"),
            (f"{key}.PNG", encoded_image(0, "PNG")),
            (f"{key}.seg.npy", b"else"),
            (f"{key}.json", label),
        ],
    )
    records = load_tar_shards(str(tmp_path / "a.tar"))
    usable = list(records)
    assert len(records) == 2 and len(usable) == 1
    assert usable[0]["file_name"].endswith(key)


def good(key, seed=0, **fields):
    label = {**caption_label(CAPTION, BOXES, SPANS, [0.9, 0.9]), **fields}
    label = json.dumps(label).encode()
    return [(f"{key}.jpg", encoded_image(seed)), (f"{key}.json", label)]


def test_bad_samples_are_left_out_and_counted(tmp_path, cleanup, caplog):
    image = encoded_image(0)
    write_tar(
        tmp_path / "a.tar",
        [
            *good("a"),
            ("b.txt", b"no image"),
            ("c.jpg", image),  # no caption
            ("d.jpg", image),
            ("d.txt", b"a caf\xe9"),
            ("e.jpg", image),
            ("e.json", b"{"),
            ("f.jpg", image),
            ("f.txt", b"a pair without boxes"),
            ("g.jpg", b"no size, no image"),
            good("g", img_h=0)[1],
            *good("h"),
            *good("a"),
            ("i.jpg", image),
            ("i.json", b"[]"),
        ],
    )
    cleanup.append("tiny_tar")
    register_grounding_dataset("tiny_tar", str(tmp_path / "a.tar"), "", format="webdataset")
    records = load_records("tiny_tar")
    assert [r["image_id"] for r in records] == ["a.tar:a", "a.tar:h"]
    line = caplog.records[-1].getMessage()
    assert line.startswith("data set 'tiny_tar': left out 8 records: ")
    for kind in (
        "no image",
        "empty caption",
        "caption not UTF-8",
        "no valid json",
        "too few boxes",
        "corrupt image",
        "duplicate id",
        "bad label",
    ):
        assert f"1 x {kind} (first: {tmp_path}/a.tar: sample " in line
    with pytest.raises(DataError, match=r"a\.tar: sample 'b': the sample has no image member"):
        load_records("tiny_tar", invalid="raise")
    assert len(list(load_tar_shards(str(tmp_path / "a.tar"), min_boxes=0))) == 3


def test_damaged_shards(tmp_path):
    path = tmp_path / "a.tar"
    write_tar(path, [m for i in range(4) for m in good(f"s{i}", i)])
    sound = path.read_bytes()
    expected = list(load_tar_shards(str(path)))
    # A header in the middle: what follows is found again.
    at = sound.index(b"s1.jpg")
    path.write_bytes(sound[:at] + b"\xff" * 300 + sound[at + 300 :])
    (tmp_path / "a.tar.index.npy").unlink()
    records = load_tar_shards(str(path))
    assert [r["file_name"][-2:] for r in records] == ["s0", "s2", "s3"]
    with pytest.raises(RecordError, match=f"sample 'byte {at}': the header of a member is damaged"):
        records[1]
    # Cut off inside the last image.
    end = sound.index(b"s3.jpg") + 512 + 1000
    path.write_bytes(sound[:end])
    (tmp_path / "a.tar.index.npy").unlink()
    records = load_tar_shards(str(path), min_boxes=0)
    assert [r["file_name"] for r in records] == [r["file_name"] for r in expected[:3]]
    path.write_bytes(b"no tar at all" * 100)
    (tmp_path / "a.tar.index.npy").unlink()
    with pytest.raises(DataError, match="is no tar file"):
        load_tar_shards(str(path))


def test_a_shard_that_shrank_since_it_was_indexed(shards):
    records = load(shards)
    record = records[4]
    path = shards / "00001.tar"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="the file ends after"):
        read_record_image(record)


def test_bad_shards(tmp_path):
    with pytest.raises(DataError, match="there is no tar shard"):
        load_tar_shards(str(tmp_path / "*.tar"))
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="plain .tar files"):
        load_tar_shards(str(tmp_path / "a.tar.gz"))


def test_index_bytes_per_sample(tmp_path):
    write_tar(tmp_path / "a.tar", [m for i in range(50) for m in good(f"{i:09d}")])
    records = load_tar_shards(str(tmp_path / "a.tar"))
    assert isinstance(records.entries, np.ndarray) and records.entries.itemsize <= 40
