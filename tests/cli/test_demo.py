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
    assert capsys.readouterr().err.startswith("error: the device 'foo' cannot be used")
