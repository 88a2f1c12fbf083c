"""What the demo leaves for people."""

import json

import pytest

from glipv2_d2.cli.demo_pictures import Picture
from glipv2_d2.cli.demo_report import (
    _results_table,
    draw_loss,
    loss_summary,
    plain_numbers,
    write_summary,
)

PICTURES = {
    "names": [Picture("val/0.jpg", "val: all names")],
    "caption": [Picture("c/1.jpg", "a red star")],
}


def detection(ap50, **more):
    return {"bbox": {"AP50": ap50}, "records": 4, "of": 4, **more}


def metrics(**tests):
    oracle = {"color_blind": {"AP50": 30.0}, "shape_blind": {"AP50": 25.5}}
    halves = {"before": {"bbox": {"AP50": 0.0}}, "after": {"bbox": {"AP50": 7.5}}}
    return {
        "tests": {"val": detection(61.0), "novel": detection(45.0, oracle=oracle)} | tests,
        "train": {
            "config": "configs/demo/x.py",
            "iterations": 30,
            "batch_size": 8,
            "images": 4,
            "val": halves,
        },
        "model": "GLIP",
        "made": "`make train-demo`",
        "seconds": {"total": 100.4},
        "machine": {"device": "cpu"},
        "quick": True,
    }


def texts():
    """The results of questions and captions."""
    accuracy = {"accuracy": 80.0, "accuracy-question_type:count": 61.0, "answer_R@1": 70.0}
    asked = {"vqa": accuracy, "wording_oracle": {"all": 29.0}, "records": 300, "of": 1200}
    written = {
        "caption": {"CIDEr": 120.0}, "records": 4, "of": 4,
        "scene_captions": {"entities": 2.5, "true_captions": 75.0, "entity_R@1": 66.6},
    }  # fmt: skip
    return {"val_vqa_grounding": asked, "novel_vqa_grounding": asked} | {
        "val_grounded_caption": written, "novel_grounded_caption": written
    }  # fmt: skip


def test_summary(tmp_path):
    target = tmp_path / "README.md"
    table = write_summary(metrics(), {"seed": "42"}, PICTURES, target)
    assert "| boxes, AP50 | 61.0 | 45.0 |" in table
    text = target.read_text()
    parts = ("A small GLIP on", "configs/demo/x.py from scratch", "0.0 before, 7.5 after")
    assert "(The whole training: `make train-demo`.)" in text
    for part in (table, *parts, "*a red star*", "- seed: `42`", "short form"):
        assert part in text
    assert "pictures/val/0.jpg" in text and "contact_sheet.jpg" in text and "loss.png" in text
    assert "glip ask" not in text and "R@1" not in text


def test_summary_of_four_tasks(tmp_path):
    pictures = PICTURES | {
        "questions": [Picture("q/0.jpg", "how many stars? 2 (true: 3)")],
        "captions": [Picture("w/0.jpg", "a blue ring")],
    }
    target = tmp_path / "README.md"
    write_summary({**metrics(**texts()), "model": "GLIPv2"}, {}, pictures, target)
    text = target.read_text()
    assert "A small GLIPv2 on rendered scenes" in text
    for part in ("*how many stars? 2 (true: 3)*", "![a blue ring](pictures/w/0.jpg)", "R@1"):
        assert part in text


def test_the_table_has_what_the_model_can():
    lines = _results_table(metrics()["tests"]).splitlines()
    assert "| boxes, AP50 of a shape-blind oracle |  | 25.5 |" in lines
    assert lines[-1] == "| images | 4 | 4 |" and len(lines) == 6
    lines = _results_table(metrics(**texts())["tests"]).splitlines()
    assert "| answers, accuracy: count | 61.0 | 61.0 |" in lines
    assert "| answers, accuracy by the words alone | 29.0 | 29.0 |" in lines
    assert "| captions whose colored shapes are all there | 75.0 | 75.0 |" in lines
    assert "| questions | the first 300 of 1200 | the first 300 of 1200 |" in lines
    assert {line.count("|") for line in lines} == {4}


def test_masks_have_a_row_of_their_own():
    val, novel = detection(61.0, segm={"AP50": 50.0}), detection(45.0, segm={"AP50": 33.3})
    lines = _results_table({"val": val, "novel": novel}).splitlines()
    assert "| masks, AP50 | 50.0 | 33.3 |" in lines


def test_loss_curve(tmp_path):
    pytest.importorskip("matplotlib")
    lines = [{"iteration": i, "total_loss": 4.0 - i, "loss_box": 1.0} for i in range(3)]
    lines.append({"iteration": 3, "bbox/AP": 0.1})
    path = tmp_path / "metrics.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    entries = draw_loss(path, tmp_path / "loss.png", 0.0, 7.5)
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert loss_summary(entries) == {"first": 4.0, "last": 2.0}


def test_json_without_nan():
    assert plain_numbers({"a": [float("nan"), 1.5], "b": {"c": "x"}}) == {
        "a": [None, 1.5],
        "b": {"c": "x"},
    }
