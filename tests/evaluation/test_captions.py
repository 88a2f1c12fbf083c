import json

import numpy as np
import pytest

from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.evaluation import CaptionEvaluator, build_evaluator, coco_java
from glipv2_d2.evaluation.caption_metrics import bleu, cider_d, rouge_l
from tests.support.benchmark_predictions import evaluate, instances, registered, written

REFERENCES = {
    139: ["A man's dog sleeps on the couch.", "the dog lies on a couch"],
    7: ["Two kites in a blue sky, over a beach."],
    42: ["Une fille à vélo", "ein Mädchen fährt Rad"],
}
CAPTIONS = {139: "a dog sleeps on a couch", 7: "", 42: "une fille à vélo ."}


def images(references=REFERENCES):
    return [
        {"image_id": i, "file_name": f"{i}.jpg", "task": "caption", "references": texts}
        for i, texts in references.items()
    ]


def outputs():
    return {i: written(caption, []) for i, caption in CAPTIONS.items()}


def test_metrics_in_percent_and_the_file_for_the_server(tmp_path):
    with registered("coco_cap", images(), "caption"):
        evaluator = build_evaluator("coco_cap", str(tmp_path), distributed=False, java=False)
        results = evaluate(evaluator, outputs(), batch=2)
    words = [["a", "dog", "sleeps", "on", "a", "couch"], [], ["une", "fille", "à", "vélo"]]
    truth = [
        ["a man 's dog sleeps on the couch".split(), "the dog lies on a couch".split()],
        ["two kites in a blue sky over a beach".split()],
        ["une fille à vélo".split(), "ein mädchen fährt rad".split()],
    ]
    expected = {f"BLEU-{n}": 100 * value for n, value in enumerate(bleu(words, truth), start=1)}
    expected["ROUGE-L"] = 100 * np.mean(list(map(rouge_l, words, truth)))
    expected["CIDEr"] = 100 * cider_d(words, truth).mean()
    assert results == {"caption": pytest.approx(expected)}
    assert expected["CIDEr"] > 100  # 10 is the most of a caption, 1000 in percent
    rows = json.loads((tmp_path / "coco_cap_predictions.json").read_text())
    assert rows == [{"image_id": i, "caption": CAPTIONS[i]} for i in REFERENCES]
    (table,) = evaluator.tables
    assert table.columns[-1] == "tokenizer"
    assert table.rows[0][-1] == "PTB-like (Python)"


def test_java_is_used_where_it_is(monkeypatch):
    """Another tokenizer, two metrics more, and both are named."""
    monkeypatch.setattr(coco_java, "has_java", lambda: True)
    monkeypatch.setattr(coco_java, "tokenize_captions", lambda texts: [["a"] for _ in texts])
    monkeypatch.setattr(coco_java, "java_metrics", lambda candidates, truth: {"METEOR": 0.25})
    with registered("coco_cap", images(), "caption"):
        evaluator = CaptionEvaluator("coco_cap", distributed=False)
        plain = CaptionEvaluator("coco_cap", distributed=False, java=False)
        results = evaluate(evaluator, outputs())["caption"]
        assert "METEOR" not in evaluate(plain, outputs())["caption"]
    assert (results["METEOR"], results["BLEU-1"]) == (25, pytest.approx(100))
    assert evaluator.tables[0].rows[0][-1] == coco_java.TOKENIZER


def test_java_that_is_missing(monkeypatch):
    monkeypatch.setattr(coco_java, "has_java", lambda: False)
    with registered("coco_cap", images(), "caption"):
        with pytest.raises(UsageError, match=r"pip install 'glipv2_d2\[captions\]'"):
            CaptionEvaluator("coco_cap", java=True)
        assert CaptionEvaluator("coco_cap").java is False


def test_without_references_the_captions_are_written(tmp_path, caplog):
    with registered("coco_test", images(dict.fromkeys(REFERENCES, [])), "caption"):
        evaluator = CaptionEvaluator("coco_test", str(tmp_path), distributed=False)
        assert evaluate(evaluator, outputs()) == {}
    assert "has no reference captions: its 3 captions are in" in caplog.text
    assert len(json.loads((tmp_path / "coco_test_predictions.json").read_text())) == 3


def test_what_cannot_be_scored_is_named():
    with (
        registered("coco_cap", images({**REFERENCES, 7: []}), "caption"),
        pytest.raises(DataError, match="1 of 3 images have no reference captions, the first: 7"),
    ):
        CaptionEvaluator("coco_cap")
    with registered("coco_cap", images(), "caption"):
        evaluator = CaptionEvaluator("coco_cap", distributed=False, java=False)
        with pytest.raises(DataError, match="image 7: .* no 'caption'.*caption head"):
            evaluate(evaluator, {7: instances([], [])})
