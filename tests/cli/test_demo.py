"""The parts of `make demo` that need neither data nor a trained model."""

from argparse import Namespace
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog

from glip_commands.demo import demo as command
from glip_commands.main import main
from glipv2_d2.checkpoint import read_safetensors_metadata
from glipv2_d2.cli import demo
from glipv2_d2.config import get_config
from glipv2_d2.engine.evaluate import pair_test_sets
from glipv2_d2.errors import UsageError
from glipv2_d2.modeling import GLIP, GLIPv2


def settled(arguments):
    """The options of a command line, with the defaults of the model."""
    return demo._settled(Namespace(**command.make_context("glip demo", arguments).params))


@pytest.mark.parametrize(("name", "kind"), [("glip", GLIP), ("glipv2", GLIPv2)])
def test_a_model_has_its_own_weights_configs_and_folder(name, kind):
    args = settled(["--model", name])
    model = demo.MODELS[name]
    assert read_safetensors_metadata(args.weights)["config"] == model.config
    for path in (model.config, model.training):
        assert get_config(path).model._target_ is kind
    others = {m.output for key, m in demo.MODELS.items() if key != name}
    assert args.output == Path(model.output).resolve() and model.output not in others


def test_glipv2_learns_all_of_its_tasks_but_masks():
    shown, trained = (
        get_config(path).model
        for path in (demo.MODELS["glipv2"].config, demo.MODELS["glipv2"].training)
    )
    assert shown.mask_head is not None
    for model in (shown, trained):
        assert model.vqa_head.ground_answer and model.caption_head is not None


def test_first_records_of_each_test_set(scenes, tmp_path):
    path = demo.MODELS["glipv2"].config
    config, names = demo.load_test_config(path, tmp_path, 2)
    assert {key: len(DatasetCatalog.get(name)) for key, name in names.items()} == {
        "val": 2, "novel": 1, "val_vqa_grounding": 2, "novel_vqa_grounding": 2,
        "val_grounded_caption": 2, "novel_grounded_caption": 1,
    }  # fmt: skip
    pairs = pair_test_sets(config.dataloader).values()
    assert [loader.dataset for loader, _ in pairs] == list(names.values())
    assert [evaluated(evaluator) for _, evaluator in pairs] == [{name} for name in names.values()]
    _, whole = demo.load_test_config(path, tmp_path, None)
    assert whole["val"] == "scenes_val" and whole["novel"] == "scenes_novel"
    assert whole["val_vqa_grounding"] == f"scenes_val_vqa_grounding_first_{demo.MOST_TEXTS}"


def evaluated(evaluator):
    """The data sets of an evaluator's node, or of those that it combines."""
    return {node.dataset_name for node in evaluator.get("evaluators", [evaluator])}


def test_glipv2_in_use(scenes, tmp_path):
    """The first half of the demo on a record of each test set: four tasks and their numbers."""
    args = settled(["--output", str(tmp_path)])
    config, names = demo.load_test_config(demo.MODELS["glipv2"].config, args.output, 1)
    config.train.device = "cpu"
    config.model.postprocessor.detections_per_prompt = 10
    found = demo.use(config, names, args, demo.Stopwatch())
    tests = found["tests"]
    for split in ("val", "novel"):
        # Trained on such scenes: a part of them is found, outlines and all.
        assert tests[split]["bbox"]["AP50"] > 30 and tests[split]["segm"]["AP50"] > 30
        asked, written = (tests[f"{split}_{k}"] for k in ("vqa_grounding", "grounded_caption"))
        assert asked["vqa"]["accuracy"] in (0, 100) and asked["wording_oracle"]["all"] in (0, 100)
        assert {"caption", "grounded_caption", "scene_captions"} < set(written)
        assert written["scene_captions"]["entities"] >= 1
        assert (asked["records"], asked["of"]) == (1, 12 if split == "val" else 3)
    assert set(found["pictures"]) == {"names", "caption", "questions", "captions"}
    assert (tmp_path / "contact_sheet.jpg").stat().st_size > 1000


def test_command_line(tmp_path, capsys):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    short = settled(["--iters", "30", "--weights", str(weights)])
    assert short.images == demo.QUICK_IMAGES
    whole = settled(["--weights", str(weights)])
    assert (whole.images, whole.model) == (None, "glipv2")
    for model, made in (("glip", "make train-demo"), ("glipv2", "docs/vl_understanding.md")):
        with pytest.raises(UsageError, match=made):
            settled(["--model", model, "--weights", str(tmp_path / "none")])
    assert main(["demo", "--weights", str(weights), "--device", "foo"]) == 2
    assert capsys.readouterr().err.startswith("error: the device 'foo' cannot be used")
