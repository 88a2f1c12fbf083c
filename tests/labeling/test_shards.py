"""A shard's labels: the same bytes every time, all or nothing, and every pair accounted for."""

import errno
import json
from pathlib import Path

import pytest

from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.labeling import shards
from glipv2_d2.labeling.pairs import find_shards
from glipv2_d2.labeling.shards import label_shard, labeled_before
from tests.support.pretraining_files import encoded_image, write_tar
from tests.support.stand_in_teacher import CAPTIONS, StandIn, contents, settings, write_pairs


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def records(output, name="pairs"):
    return [json.loads(line) for line in (output / name / "records.jsonl").read_text().splitlines()]


def refused():
    raise AssertionError("the teacher was asked")


@pytest.mark.parametrize("format", ["tsv", "tsv2", "odvg", "webdataset"])
def test_the_same_bytes_whatever_the_batch_and_no_work_twice(format, tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "tar")], 1)
    summary = label_shard(shard, output, StandIn, settings(format))
    first = contents(output)
    assert (summary.pairs, summary.labeled, summary.without_phrase) == (4, 4, 1)
    assert summary.phrases == sum(len(record["phrases"]) for record in records(output)) == 4
    assert label_shard(shard, output, refused, settings(format)) == summary
    for path in sorted(output.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    single = StandIn()
    single.batch_size = 1
    label_shard(shard, output, lambda: single, settings(format))
    assert contents(output) == first and list(output.iterdir()) == [output / "pairs"]


def test_pairs_that_cannot_be_used_are_named_and_the_others_labeled(tmp_path, output):
    good = encoded_image(0)
    half = good[: len(good) // 2]
    members = [("a.jpg", good), ("a.txt", b"a star"), ("b.jpg", half), ("b.txt", b"a ring"),
               ("c.txt", b"a cross"), ("a.jpg", good), ("a.txt", b"a star"), ("d.jpg", good),
               ("d.txt", b"\xff\xff"), ("e.jpg", good), ("e.txt", b"why?")]  # fmt: skip
    write_tar(tmp_path / "pairs.tar", members)
    (shard,) = find_shards([str(tmp_path / "pairs.tar")], 1)
    summary = label_shard(shard, output, StandIn, settings())
    assert (summary.pairs, summary.labeled, summary.without_phrase) == (6, 2, 1)
    assert summary.errors == {
        "caption not UTF-8": 1, "corrupt image": 1, "duplicate id": 1, "no image": 1,
    }  # fmt: skip
    named = {record["key"]: record["error"] for record in records(output) if record["error"]}
    assert set(named) == {"a", "b", "c", "d"} and "pairs.tar:b" in named["b"]


def test_keys_of_a_tsv_that_come_again(tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "yaml")], 9)
    for name in ("images", "labels"):
        path = tmp_path / f"{name}.tsv"
        path.write_bytes(path.read_bytes().replace(b"k1\t", b"k0\t"))
    assert label_shard(shard, output, StandIn, settings()).errors == {"duplicate key": 1}


def test_a_full_disk_leaves_nothing_behind(tmp_path, output, monkeypatch):
    (shard,) = find_shards([write_pairs(tmp_path, "tar")], 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards.json, "dumps", full)
        with pytest.raises(OSError, match="No space left"):
            label_shard(shard, output, StandIn, settings())
    assert list(output.iterdir()) == []
    label_shard(shard, output, StandIn, settings())
    assert len(records(output)) == 4


def test_what_a_killed_process_left_is_removed(tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "tar")], 1)
    (output / ".pairs.12345678.tmp/pairs").mkdir(parents=True)
    (output / ".others.12345678.tmp").mkdir()
    label_shard(shard, output, StandIn, settings())
    assert sorted(path.name for path in output.iterdir()) == [".others.12345678.tmp", "pairs"]


def test_a_shard_whose_pairs_have_changed_is_labeled_anew(tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "csv", 3)], 9)
    label_shard(shard, output, StandIn, settings())
    (shard,) = find_shards([write_pairs(tmp_path, "csv", 4)], 9)
    assert labeled_before([shard], output, settings()) == {"pairs-00000"}
    assert label_shard(shard, output, StandIn, settings()).pairs == 4
    assert [r["caption"] for r in records(output, "pairs-00000")] == CAPTIONS
    assert len(list(output.iterdir())) == 1


def test_labels_of_rows_that_no_shard_has_now_are_refused(tmp_path, output):
    table = write_pairs(tmp_path, "csv")
    for shard in find_shards([table], 2):
        label_shard(shard, output, StandIn, settings())
    before = contents(output)
    with pytest.raises(UsageError, match="pairs-00001 has labels of rows of .*--rows was another"):
        labeled_before(find_shards([table], 9), output, settings())
    with pytest.raises(UsageError, match="--rows was another"):
        labeled_before(find_shards([table], 3)[:1], output, settings())
    assert contents(output) == before
    assert len(labeled_before(find_shards([table], 2), output, settings())) == 2


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "tar")], 1)
    (output / "pairs").mkdir()
    (output / "pairs/mine.txt").write_text("mine")
    for call in (
        lambda: labeled_before([shard], output, settings()),
        lambda: label_shard(shard, output, refused, settings()),
    ):
        with pytest.raises(UsageError, match="pairs is there already and was not written by"):
            call()
    assert contents(output) == {"pairs/mine.txt": b"mine"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher": {"weights": "another"}}, "weights 'stand-in' and now 'another'"),
        ({"threshold": 0.2}, "threshold 0.1 and now 0.2"),
        ({"teacher": {"weights": "stand-in", "config": "b"}}, "config None and now 'b'"),
    ],
)
def test_another_teacher_or_setting_is_refused(fields, message, tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "tar")], 1)
    label_shard(shard, output, StandIn, settings())
    before = contents(output)
    for call in (
        labeled_before,
        lambda shards, *more: label_shard(shards[0], more[0], refused, more[1]),
    ):
        with pytest.raises(UsageError, match=message):
            call([shard], output, settings(**fields))
    assert contents(output) == before


def test_a_shard_without_a_usable_pair_is_not_done(tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "csv")], 9, image_root="elsewhere")
    summary = label_shard(shard, output, StandIn, settings())
    assert "none of 4 pairs is usable: missing image file: " in summary.failed
    assert list(output.iterdir()) == []
    Path(shard.path).unlink()
    assert "there is no file" in label_shard(shard, output, StandIn, settings()).failed


def test_a_manifest_that_is_none_names_the_remedy(tmp_path, output):
    (shard,) = find_shards([write_pairs(tmp_path, "tar")], 1)
    (output / "pairs").mkdir()
    (output / "pairs/manifest.json").write_text("{")
    with pytest.raises(DataError, match="remove its folder, and the shard is labeled anew"):
        labeled_before([shard], output, settings())
