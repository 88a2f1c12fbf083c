"""Pairs out of tars, TSV files and tables, in shards; what cannot be read is named in its place."""

import json

import pytest

from glipv2_d2.data.report import RecordError
from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.labeling.pairs import Columns, Shard, find_shards, read_pairs
from tests.support.pretraining_files import encoded_image, write_tar
from tests.support.stand_in_teacher import CAPTIONS, write_pairs


def read(shards, *columns):
    """[(key, caption or kind of the error)] of shards, in order."""
    return [
        (key, record.kind if isinstance(record, RecordError) else record["caption"])
        for shard in shards
        for key, record in read_pairs(shard, Columns(*columns))
    ]


@pytest.mark.parametrize("kind", ["tar", "yaml", "csv", "tsv", "jsonl"])
@pytest.mark.parametrize("rows", [1, 3, 10])
def test_every_pair_once_however_many_rows_a_shard_has(kind, rows, tmp_path):
    path = write_pairs(tmp_path, kind)
    shards = find_shards([path], rows)
    assert len(shards) == {"tar": 1}.get(kind, -(-4 // rows))
    found = read(shards)
    assert [caption for _, caption in found] == CAPTIONS
    key = "k{}" if kind in ("tar", "yaml") else "{:09}"
    assert [k for k, _ in found] == [key.format(i) for i in range(4)]


def test_rows_of_a_csv_may_have_several_lines_and_bytes_that_are_no_utf8(tmp_path):
    rows = [b'\xef\xbb\xbfcaption,"path",more', b'"a ""red""\nstar, left",1.jpg,x', b"",
            b"caf\xe9,2.jpg", b"   ,3.jpg", b"only one", b"a ring,4.jpg,y"]  # fmt: skip
    (tmp_path / "t.csv").write_bytes(b"\r\n".join(rows))
    shards = find_shards([str(tmp_path / "t.csv")], 2)
    assert [(shard.first, shard.rows) for shard in shards] == [(0, 2), (2, 2), (4, 1)]
    assert read(shards) == [
        ("000000000", 'a "red"\nstar, left'),
        ("000000001", "caption not UTF-8"),
        ("000000002", "empty caption"),
        ("000000003", "missing field"),
        ("000000004", "a ring"),
    ]
    assert len({shard.digest()["sha256"] for shard in shards}) == 3


def test_a_table_is_never_read_as_another_one(tmp_path):
    path = tmp_path / "t.csv"

    def shards(text):
        path.write_text(text)
        return find_shards([str(path)], 10)

    found = read(shards("path, caption\n1.jpg,a star, left\n2.jpg,a ring,\n3.jpg\n4.jpg,a star\n"))
    assert [kind for _, kind in found] == ["too many cells", "a ring", "missing field", "a star"]
    (_, other), *_ = read_pairs(shards("path;caption\n1.jpg;a star\n")[0], Columns())
    assert "'path' is none of ['path;caption'] (see --columns)" in str(other)
    with pytest.raises(DataError, match="names the column 'caption' twice"):
        shards("path,caption,caption\n1.jpg,a star,a ring\n")
    for begun in ('"a star', '"red" star'):  # unclosed, it would hold the rows behind it, too
        with pytest.raises(DataError, match="the row at byte 13: .*those inside are doubled"):
            shards(f"path,caption\n1.jpg,{begun}\n2.jpg,a ring\n")


def test_columns_and_the_folder_of_the_images(tmp_path):
    line = {"file": "a.jpg", "text": "a star"}
    (tmp_path / "t.jsonl").write_text(json.dumps(line) + "\n[1]\n{\n")
    shards = find_shards([str(tmp_path / "t.jsonl")], 10, image_root="photos")
    (_, record), *bad = read_pairs(shards[0], Columns("file", "text"))
    assert record == {"file_name": "photos/a.jpg", "caption": "a star", "path": "a.jpg"}
    assert [error.kind for _, error in bad] == ["no valid json"] * 2
    assert read(shards)[0] == ("000000000", "missing field")
    write_tar(tmp_path / "b.tar", [("0.jpg", encoded_image(0)), ("0.txt", b"\xef\xbb\xbfa cat")])
    assert read(find_shards([str(tmp_path / "b.tar")], 1)) == [("0", "a cat")]
    write_tar(tmp_path / "a.tar", [("0.jpg", encoded_image(0)), ("0.json", b'{"text": "a cat"}')])
    assert read(find_shards([str(tmp_path / "a.tar")], 1), "", "text") == [("0", "a cat")]


def test_a_tar_that_is_cut_off_has_the_samples_before(tmp_path):
    path = tmp_path / "pairs.tar"
    write_pairs(tmp_path, "tar")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])  # far more than a fifth is lost
    found = read(find_shards([str(path)], 1))
    assert found[0] == ("", "damaged shard") and found[1] == ("k0", CAPTIONS[0])
    assert len(found) < 5


def test_members_apart_and_keys_that_come_again_are_named(tmp_path):
    names = ["a.jpg", "b.jpg", "b.txt", "a.txt", "c.jpg", "c.txt"]
    data = [encoded_image(0) if name.endswith("jpg") else b"a star" for name in names]
    write_tar(tmp_path / "a.tar", list(zip(names, data)))
    found = read(find_shards([str(tmp_path / "a.tar")], 1))
    assert found == [
        ("a", "empty caption"), ("b", "a star"), ("a", "duplicate id"), ("c", "a star"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["tar", "csv", "yaml"])
def test_a_shard_with_other_pairs_has_another_digest(kind, tmp_path):
    (before,) = find_shards([write_pairs(tmp_path / "a", kind)], 10)
    (same,) = find_shards([write_pairs(tmp_path / "b", kind)], 10)
    (other,) = find_shards([write_pairs(tmp_path / "c", kind, 3)], 10)
    assert before.digest() == same.digest() != other.digest()


def test_what_holds_no_pairs_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'photo.jpg' holds no pairs that are known by its name"):
        find_shards(["photo.jpg"], 1)
    with pytest.raises(DataError, match="there is no file 'a.tar'"):
        find_shards(["a.tar"], 1)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="its first row must name the columns"):
        find_shards([str(tmp_path / "empty.csv")], 1)
    both = [write_pairs(tmp_path / name, "tar") for name in "ab"]
    with pytest.raises(UsageError, match="have one name, and so would their labels"):
        find_shards(both, 1)
    with pytest.raises(DataError, match="there is no file"):
        Shard("a", str(tmp_path / "gone.tar"), 0, 0, 0, 9).digest()
