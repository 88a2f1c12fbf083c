"""Each format is read back by the loader that trains on it, screened by the scores."""

import json

import pytest

from glipv2_d2.data import load_records, register_grounding_dataset
from glipv2_d2.labeling.pairs import find_shards
from glipv2_d2.labeling.shards import label_shard
from glipv2_d2.language.noun_phrases import rules
from tests.support.pretraining_files import HEIGHT, WIDTH, encoded_image, write_tar
from tests.support.stand_in_teacher import CAPTIONS, StandIn, settings, write_pairs

FILES = {
    "tsv": ("glip_tsv", "*/pairs.yaml"),
    "tsv2": ("glip_tsv", "*/pairs.yaml"),
    "odvg": ("odvg", "*/annotations.jsonl"),
    "webdataset": ("webdataset", "*/pairs.tar"),
}


def labeled(kind, format, tmp_path, rows=2):
    (tmp_path / "out").mkdir()
    for shard in find_shards([write_pairs(tmp_path / "in", kind)], rows):
        assert label_shard(shard, tmp_path / "out", StandIn, settings(format)).failed is None
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["tar", "csv"])
@pytest.mark.parametrize("format", FILES)
def test_a_loader_reads_the_boxes_that_score_more_than_it_asks(format, kind, tmp_path):
    output = labeled(kind, format, tmp_path)
    root = tmp_path / "in" if (kind, format) == ("csv", "odvg") else output
    reader, pattern = FILES[format]
    with_phrases = [caption for caption in CAPTIONS if rules(caption)]
    for name, options, per_phrase in (("half", {}, 1), ("low", {"min_score": 0.25}, 2)):
        register_grounding_dataset(
            name, str(output / pattern), str(root), reader, reader_options=options
        )
        records = list(load_records(name))
        assert [r["caption"] for r in records] == with_phrases
        assert len({r["image_id"] for r in records}) == len(records)
        for record in records:
            assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
            spans = [a["spans"] for a in record["annotations"]]
            wanted = [[[*span]] for span in rules(record["caption"])]
            assert sorted(spans) == sorted(wanted * per_phrase)
    boxes = {
        tuple(a["bbox"])[1:2] + tuple(a["bbox"])[3:] for r in records for a in r["annotations"]
    }
    assert boxes == {(1.0, 12.0), (5.0, 15.5)}


def test_images_are_copied_byte_by_byte_and_keys_may_have_dots(tmp_path):
    data = encoded_image(0, "PNG")
    write_tar(tmp_path / "a.tar", [("d/x%y.png", data), ("d/x%y.txt", b"a star")])
    (tmp_path / "out").mkdir()
    (shard,) = find_shards([str(tmp_path / "a.tar")], 1)
    label_shard(shard, tmp_path / "out", StandIn, settings("odvg"))
    (image,) = (tmp_path / "out/a/images").iterdir()
    assert image.read_bytes() == data
    line = json.loads((tmp_path / "out/a/annotations.jsonl").read_text())
    assert line["filename"] == f"a/images/{image.name}"


def test_boxes_are_nested_by_phrase_in_the_second_tsv(tmp_path):
    output = labeled("csv", "tsv2", tmp_path, rows=10)
    rows = (output / "pairs-00000/labels.tsv").read_text().splitlines()
    label = json.loads(rows[2].split("\t")[1])
    assert label["tokens_positive"] == [[[4, 13]], [[20, 24]]]
    assert label["scores"] == [[0.9, 0.3], [0.9, 0.3]] and len(label["bboxes"][1]) == 2
    assert json.loads(rows[1].split("\t")[1])["bboxes"] == []  # kept: it names nothing
