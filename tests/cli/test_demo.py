"""The parts of `make demo` that need neither data nor a trained model."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from glip_commands.demo import demo as command
from glip_commands.main import main
from glipv2_d2.checkpoint import read_safetensors_metadata
from glipv2_d2.cli import demo
from glipv2_d2.cli.demo_report import (
    _results_table,
    draw_loss,
    loss_summary,
    plain_numbers,
    write_summary,
)
from glipv2_d2.config import get_config
from glipv2_d2.engine.evaluate import pair_test_sets
from glipv2_d2.errors import UsageError
from glipv2_d2.modeling import GLIP, GLIPv2


def settled(arguments):
    """The options of a command line, with the defaults of the model."""
    return demo._settled(Namespace(**command.make_context("glip demo", arguments).params))


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


def test_best_phrase_of_overlapping_results():
    results = [
        {"image_id": 1, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.4, "category_id": 1},
        {"image_id": 1, "bbox": [0.0, 0.0, 10.0, 11.0], "score": 0.6, "category_id": 2},
        {"image_id": 2, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.3, "category_id": 1},
    ]
    kept = demo.best_phrases(results, 0.7)
    assert [(r["image_id"], r["category_id"]) for r in kept] == [(1, 2), (2, 1)]


@pytest.mark.parametrize(("name", "kind"), [("glip", GLIP), ("glipv2", GLIPv2)])
def test_a_model_has_its_own_weights_configs_and_folder(name, kind):
    args = settled(["--model", name])
    model = demo.MODELS[name]
    assert read_safetensors_metadata(args.weights)["config"] == model.config
    for path in (model.config, model.training):
        assert get_config(path).model._target_ is kind
    others = {m.output for key, m in demo.MODELS.items() if key != name}
    assert args.output == Path(model.output).resolve() and model.output not in others


def test_glipv2_trains_with_its_losses_and_is_shown_with_masks():
    shown, trained = (
        get_config(path).model
        for path in (demo.MODELS["glipv2"].config, demo.MODELS["glipv2"].training)
    )
    assert shown.mask_head is not None
    assert trained.contrast is not None and trained.mlm_head is not None


def test_first_images_of_each_test_set(scenes, tmp_path):
    path = demo.MODELS["glipv2"].config
    config, names = demo.load_test_config(path, tmp_path, 2)
    assert {key: len(DatasetCatalog.get(name)) for key, name in names.items()} == {
        "val": 2, "novel": 1
    }  # fmt: skip
    pairs = pair_test_sets(config.dataloader).values()
    assert [loader.dataset for loader, _ in pairs] == list(names.values())
    assert [evaluator.dataset_name for _, evaluator in pairs] == list(names.values())
    _, whole = demo.load_test_config(path, tmp_path, None)
    assert whole == {"val": "scenes_val", "novel": "scenes_novel"}


def test_glipv2_in_use(scenes, tmp_path):
    """The first half of the demo on two images: pictures, boxes, masks and their AP."""
    args = settled(["--model", "glipv2", "--output", str(tmp_path)])
    config, names = demo.load_test_config(demo.MODELS["glipv2"].config, args.output, 1)
    config.train.device = "cpu"
    config.model.postprocessor.detections_per_prompt = 10
    found = demo.use(config, names, args, demo.Stopwatch())
    for key in ("val", "novel"):
        assert found[key]["images"] == 1
        # Trained on such scenes: a part of them is found, outlines and all.
        assert found[key]["bbox"]["AP50"] > 30 and found[key]["segm"]["AP50"] > 30
    assert len(found["pictures"]) == 2
    drawn = [*found["pictures"], "caption/caption.txt"]
    assert all((tmp_path / "pictures" / name).is_file() for name in drawn)
    assert (tmp_path / "contact_sheet.jpg").stat().st_size > 1000


def test_command_line(tmp_path, capsys):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    short = settled(["--iters", "30", "--weights", str(weights)])
    assert short.images == demo.QUICK_IMAGES
    assert settled(["--weights", str(weights)]).images is None
    for model, made in (("glip", "make train-demo"), ("glipv2", "docs/glipv2.md")):
        with pytest.raises(UsageError, match=made):
            settled(["--model", model, "--weights", str(tmp_path / "none")])
    assert main(["demo", "--weights", str(weights), "--device", "foo"]) == 2
    assert capsys.readouterr().err.startswith("error: The device 'foo' cannot be used")
