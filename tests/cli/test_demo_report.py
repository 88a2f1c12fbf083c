"""What the demo leaves for people."""

import json

import pytest

from glipv2_d2.cli.demo_report import (
    _results_table,
    draw_loss,
    loss_summary,
    plain_numbers,
    write_summary,
)


def metrics():
    ap = {"bbox": {"AP50": 61.0}, "images": 4}
    oracle = {"color_blind": {"AP50": 30.0}, "shape_blind": {"AP50": 25.5}}
    halves = {"before": {"bbox": {"AP50": 0.0}}, "after": {"bbox": {"AP50": 7.5}}}
    return {
        "val": ap,
        "novel": {"bbox": {"AP50": 45.0}, "images": 4, "oracle": oracle},
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


def test_summary(tmp_path):
    caption = tmp_path / "pictures" / "caption"
    caption.mkdir(parents=True)
    (caption / "caption.txt").write_text("a red star\n")
    (caption / "1.jpg").write_bytes(b"")
    target = tmp_path / "README.md"
    table = write_summary(metrics(), {"seed": "42"}, ["val/0.jpg"], target)
    assert "| shipped weights on novel | 45.0 | 4 |" in table
    text = target.read_text()
    parts = ("A small GLIP on", "configs/demo/x.py from scratch", "0.0 before, 7.5 after")
    assert "(The whole training: `make train-demo`.)" in text
    for part in (table, *parts, "a red star", "- seed: `42`", "short form"):
        assert part in text
    assert "pictures/val/0.jpg" in text and "contact_sheet.jpg" in text and "loss.png" in text


@pytest.mark.parametrize("name", ["GLIP", "GLIPv2"])
def test_the_summary_names_the_model(name, tmp_path):
    caption = tmp_path / "pictures" / "caption"
    caption.mkdir(parents=True)
    for file in ("caption.txt", "1.jpg"):
        (caption / file).touch()
    write_summary({**metrics(), "model": name}, {}, [], tmp_path / "README.md")
    assert f"A small {name} on rendered scenes" in (tmp_path / "README.md").read_text()


def test_masks_have_a_column_of_their_own():
    numbers = metrics()
    numbers["val"]["segm"], numbers["novel"]["segm"] = {"AP50": 50.0}, {"AP50": 33.3}
    lines = _results_table(numbers).splitlines()
    assert lines[0] == "| | AP50 | AP50 of masks | images |"
    assert "| shipped weights on novel | 45.0 | 33.3 | 4 |" in lines
    assert "| shape-blind oracle on novel | 25.5 | | 4 |" in lines
    assert {line.count("|") for line in lines} == {5}


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
