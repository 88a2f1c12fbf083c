import json

import pytest

from glipv2_d2.data.datasets.gqa import load_gqa_json
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError


def entry(**fields):
    types = {"structural": "query", "semantic": "attr", "detailed": "directWhich"}
    return {"imageId": "2375429", "question": "Which color?", "types": types, **fields}


def write(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def test_records(tmp_path):
    verify = {"structural": "verify", "semantic": "rel", "detailed": "existRel"}
    content = {"0293": entry(answer="red"), "2": entry(answer="yes", types=verify)}
    first, second = load_gqa_json(write(tmp_path / "q.json", content), "gqa/images", "gqa")
    assert first == {
        "file_name": "gqa/images/2375429.jpg",
        "image_id": "0293",
        "question_id": "0293",
        "original_img_id": "2375429",
        "caption": "Which color?",
        "task": "question",
        "answers": {"red": 1.0},
        "answer_type": "open",
        "question_type": "query",
        "semantic_type": "attr",
        "dataset_name": "gqa",
    }
    assert second["answer_type"] == "binary" and second["answers"] == {"yes": 1.0}


def test_a_test_set(tmp_path):
    (record,) = load_gqa_json(write(tmp_path / "q.json", {"1": entry()}), "")
    assert "answers" not in record


def test_what_cannot_be_used(tmp_path):
    content = {"1": entry(answer=["red"]), "2": entry(question=7), "3": entry(imageId=None), "4": 5}
    report = Report()
    assert load_gqa_json(write(tmp_path / "q.json", content), "", report=report) == []
    assert sum(count for count, _ in report.kinds.values()) == len(report.kinds) == 4
    with pytest.raises(DataError, match=r"q\.json: not in GQA's format"):
        load_gqa_json(write(tmp_path / "q.json", [entry()]), "")
