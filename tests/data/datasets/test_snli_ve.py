import json

import pytest

from glipv2_d2.data.datasets.snli_ve import SNLI_VE_ANSWERS, load_snli_ve
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError


def line(number, label="neutral", **fields):
    entry = {"pairID": f"48.jpg#0r{number}n", "Flickr30K_ID": "48", "gold_label": label}
    return json.dumps({**entry, "sentence2": "A man sleeps.", **fields})


def test_records(tmp_path):
    path = tmp_path / "dev.jsonl"
    lines = "\n\n".join(line(i, label) for i, label in enumerate(SNLI_VE_ANSWERS))
    path.write_text(f"\ufeff{lines}\n\n", encoding="utf-8")  # as editors on Windows do
    records = load_snli_ve(str(path), "flickr30k_images", "snli_ve_dev")
    assert records[1] == {
        "file_name": "flickr30k_images/48.jpg",
        "image_id": "48.jpg#0r1n",
        "question_id": "48.jpg#0r1n",
        "original_img_id": "48",
        "caption": "A man sleeps.",
        "task": "question",
        "answers": {"neutral": 1.0},
        "answer_type": "neutral",
        "dataset_name": "snli_ve_dev",
    }
    assert [set(record["answers"]) for record in records] == [{a} for a in SNLI_VE_ANSWERS]


def test_what_cannot_be_used(tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join([line(0, "-"), "{", "[]", line(1, sentence2=""), line(2), line(2)]))
    report = Report()
    assert load_snli_ve(str(path), "", report=report) == []
    assert {kind: count for kind, (count, _) in report.kinds.items()} == {
        "unknown label": 1,
        "no json": 1,
        "no json object": 1,
        "question is empty or no text": 1,
        "duplicate question id": 2,
    }
    with pytest.raises(DataError, match="there is no file of hypotheses"):
        load_snli_ve(str(tmp_path / "none.jsonl"), "")
