import json
import os

import numpy as np
import pytest
from detectron2.structures import BoxMode

from glipv2_d2.data import load_records, read_record_image, register_grounding_dataset
from glipv2_d2.data.datasets import tar_shards
from glipv2_d2.data.datasets.tar_shards import TarRecords
from glipv2_d2.errors import DataError
from tests.support.pretraining_files import (
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
    return TarRecords(str(shards / "*.tar"), **options)


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
        patch.setattr(tar_shards, "_read_headers", lambda path: pytest.fail("read again"))
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
    records = TarRecords(str(tmp_path / "a.tar"))
    usable = list(records)
    assert len(records) == 2 and len(usable) == 1
    assert usable[0]["file_name"].endswith(key)


def good(key, seed=0, **fields):
    label = {**caption_label(CAPTION, BOXES, SPANS, [0.9, 0.9]), **fields}
    label = json.dumps(label).encode()
    return [(f"{key}.jpg", encoded_image(seed)), (f"{key}.json", label)]


def test_bad_samples_are_left_out_and_counted(tmp_path, caplog):
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
    assert len(list(TarRecords(str(tmp_path / "a.tar"), min_boxes=0))) == 3


def damaged(path, key, first=9):
    """A shard of ten samples, with a member's header overwritten; the byte where that was."""
    write_tar(path, [m for i in range(first, first + 10) for m in good(f"s{i:02d}", i)])
    sound = path.read_bytes()
    at = sound.index(f"{key}.jpg".encode())
    path.write_bytes(sound[:at] + b"\xff" * 300 + sound[at + 300 :])
    return at


def test_a_damaged_shard_is_one_problem(tmp_path, caplog):
    """The samples before the damage and other shards are used; what follows is not looked for."""
    write_tar(tmp_path / "a.tar", [m for i in range(9) for m in good(f"s{i:02d}", i)])
    at = damaged(tmp_path / "b.tar", "s16")
    register_grounding_dataset("tiny_tar", str(tmp_path / "*.tar"), "", format="webdataset")
    for _ in range(2):  # from the headers, and from the index
        records = load_records("tiny_tar")
        assert [r["image_id"][-3:] for r in records] == [f"s{i:02d}" for i in range(16)]
        assert caplog.records[-1].getMessage() == (
            "data set 'tiny_tar': left out 1 record: 1 x damaged shard (first: "
            f"{tmp_path}/b.tar: byte {at}: no member begins here; 7 samples before it are used)"
        )
    for options in ({"invalid": "raise"}, {"drop_records": False}):
        with pytest.raises(DataError, match=f"b.tar: byte {at}: no member begins here.* Repair"):
            load_records("tiny_tar", **options)


def test_too_many_damaged_bytes_stop(tmp_path):
    damaged(tmp_path / "a.tar", "s12")
    with pytest.raises(DataError, match=r"[67]\d% of the bytes of 1 tar shards.*3 samples before"):
        load(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "a.tar.index.npy").unlink()
    with pytest.raises(DataError, match="a.tar: byte 0: it is no tar file"):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["cut off", "preallocated"])
def test_a_shard_that_was_not_copied_to_its_end(tmp_path, caplog, damage):
    path = tmp_path / "a.tar"
    large = bytes(1 << 20)
    write_tar(path, [m for i in range(6) for m in (*good(f"s{i}", i), (f"s{i}.npy", large))])
    sound = path.read_bytes()
    if damage == "cut off":  # inside the last image
        path.write_bytes(sound[: sound.index(b"s5.jpg") + 512 + 1000])
    else:
        end = sound.index(b"s5.jpg")
        path.write_bytes(sound[:end] + bytes(len(sound) - end))
    assert [r["file_name"][-2:] for r in load(tmp_path)] == [f"s{i}" for i in range(5)]
    assert "1 x damaged shard (first: " in caplog.text and "; 5 samples before it" in caplog.text


def test_an_index_of_an_older_release_is_made_anew(shards):
    expected = list(load(shards))
    index = shards / "00000.tar.index.npy"
    np.save(index, np.zeros(3, dtype=[("image_offset", np.int64), ("key", "S4")]))
    assert list(load(shards)) == expected
    assert np.load(index).dtype.names[:2] == ("image", "image_size")


def test_a_shard_that_shrank_since_it_was_indexed(shards):
    records = load(shards)
    record = records[4]
    path = shards / "00001.tar"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="the file ends after"):
        read_record_image(record)


def test_bad_shards(tmp_path):
    with pytest.raises(DataError, match="there is no tar shard"):
        TarRecords(str(tmp_path / "*.tar"))
    (tmp_path / "a.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="plain .tar files"):
        TarRecords(str(tmp_path / "a.tar.gz"))


def test_index_bytes_per_sample(tmp_path):
    write_tar(tmp_path / "a.tar", [m for i in range(50) for m in good(f"{i:09d}")])
    records = TarRecords(str(tmp_path / "a.tar"))
    assert isinstance(records.entries, np.ndarray) and records.entries.itemsize <= 40
