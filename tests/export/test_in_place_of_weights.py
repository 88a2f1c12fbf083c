"""An export stands where weights do, wherever a model is used and not changed."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf

from glip_commands.main import main
from glipv2_d2 import model_zoo
from glipv2_d2.checkpoint import build_for_weights, is_export, read_checkpoint
from glipv2_d2.checkpoint.file_kinds import telling_file
from glipv2_d2.config import get_config
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.engine.exemplars import make_exemplar
from glipv2_d2.engine.loading import (
    require_precision,
    require_settings_of_export,
    with_settings_of_export,
)
from glipv2_d2.engine.training import do_test
from glipv2_d2.errors import CheckpointError, ConfigError, ExportError, UsageError
from glipv2_d2.export import ExportedGLIP
from glipv2_d2.labeling.teacher import fingerprint
from tests.support.exported_model import INFERENCE, NAMES, small_config
from tests.support.exported_model import image as made
from tests.support.tiny_data import write_tiny_data

TRAINING = "tests/support/tiny_train.py"
CONFIG = "demo/scenes.py"  # any: of the model it says nothing


@pytest.fixture
def image():
    return made(90, 130)


def test_the_predictor(exported, loaded, image, monkeypatch):
    predictor = GroundingPredictor.from_config(CONFIG, exported, device="cpu", merge_iou=None)
    assert isinstance(predictor.model, ExportedGLIP)
    assert INFERENCE == {key: getattr(predictor, key) for key in INFERENCE}  # not the config's
    found = predictor(image, NAMES)[0]
    expected = GroundingPredictor(loaded, **INFERENCE)(image, NAMES)[0]
    assert len(found) and torch.equal(found.scores, expected.scores)
    monkeypatch.setattr("glipv2_d2.engine.predictor.load_model", lambda *_: loaded)
    other = GroundingPredictor.from_config(CONFIG, exported, overrides=["inference.min_size=64"])
    assert (other.min_size, other.max_size) == (64, INFERENCE["max_size"])


def test_its_model_is_not_set_again(exported):
    settings = ["inference.min_size=64", "model.chunk_size=3"]
    with pytest.raises(ConfigError, match="is an export.* model.chunk_size has no effect"):
        GroundingPredictor.from_config(CONFIG, exported, overrides=settings)


def test_an_evaluation(exported, loaded, source_model, tmp_path, monkeypatch):
    write_tiny_data(tmp_path, images=4)
    monkeypatch.setenv("TINY_DATA", str(tmp_path))
    monkeypatch.setattr("glipv2_d2.engine.training.load_model", lambda *_: loaded)  # as above
    cfg = get_config(TRAINING)
    cfg.train.update(device="cpu", output_dir=str(tmp_path / "model"))
    do_test(cfg, source_model)
    asked = ["eval", "--config-file", TRAINING, "--weights", str(exported), "--num-gpus", "0"]
    assert main([*asked, f"train.output_dir={tmp_path / 'export'}"]) == 0
    expected, found = (
        json.loads(next((tmp_path / side).rglob("coco_instances_results.json")).read_text())
        for side in ("model", "export")
    )
    assert expected and [x["category_id"] for x in found] == [x["category_id"] for x in expected]
    for x, y in zip(found, expected):  # sums in another order
        assert x["bbox"] == pytest.approx(y["bbox"], abs=0.01)
        assert x["score"] == pytest.approx(y["score"], abs=1e-4)


def test_an_evaluation_does_not_set_its_model(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINY_DATA", str(tmp_path))
    asked = ["eval", "--config-file", TRAINING, "--weights", str(exported), "--num-gpus", "0"]
    assert main([*asked, "model.min_score=0.3"]) == 2
    assert "model.min_score has no effect; leave it out, or exp" in capsys.readouterr().err


def test_settings_of_an_evaluation(exported):
    config = get_config(CONFIG)
    config.inference.update(min_size=1, max_size=2, batch_size=3)
    settings = with_settings_of_export(config, exported, ["inference.max_size=2"]).inference
    assert (settings.min_size, settings.max_size) == (INFERENCE["min_size"], 2)
    assert (settings.score_threshold, settings.batch_size) == (INFERENCE["score_threshold"], 3)

    model = small_config()
    require_settings_of_export(model, exported)
    model.prompt_batch_size = 77  # of the memory alone
    require_settings_of_export(model, exported)
    for key, value in (("input_format", "RGB"), ("postprocessor.detections_per_prompt", 7)):
        other = small_config()
        OmegaConf.update(other, key, value, force_add=True)
        with pytest.raises(ConfigError, match=f"export again with model.{key}={value}, or give"):
            require_settings_of_export(other, exported)


def test_precision_of_its_graphs(loaded, monkeypatch):
    for format, precision in (("onnx", "bf16"), ("openvino", "fp16")):
        manifest = replace(loaded.manifest, format=format)
        monkeypatch.setattr(loaded, "manifest", manifest)
        with pytest.raises(ConfigError, match=f"={precision}: an export for {format} runs in fp32"):
            require_precision(loaded, precision)
        require_precision(loaded, "fp32")


def test_weights_are_asked_for_where_it_would_be_changed(exported):
    for read in (
        read_checkpoint,
        lambda path: build_for_weights(get_config(CONFIG).model, path),
        lambda path: model_zoo.find_model(weights=str(path)),
    ):
        with pytest.raises(CheckpointError, match="is an export, .*: give the weights that it was"):
            read(exported)


def test_it_says_its_config(exported, tmp_path):
    find_model = partial(model_zoo.find_model, exports=True)
    with pytest.raises(UsageError, match="does not say of which model it is"):  # made in Python
        find_model(weights=str(exported))
    assert find_model("", "a.py", str(exported)) == ("a.py", str(exported))
    noted = shutil.copytree(exported, tmp_path / "noted")
    about = (noted / "export.json").read_text()
    (noted / "export.json").write_text(about.replace('"notes": {', '"notes": {"config": "b.py", '))
    assert find_model(weights=str(noted)) == ("b.py", str(noted))
    (noted / "export.json").write_text("{")
    with pytest.raises(ExportError, match="export.json' is damaged"):
        find_model(weights=str(noted))


def test_as_a_teacher_it_is_all_of_its_files(exported, tmp_path):
    before = fingerprint(CONFIG, str(exported), [])
    copied = shutil.copytree(exported, tmp_path / exported.name)
    (copied / "__pycache__").mkdir()
    (copied / "__pycache__" / "glip_runtime.pyc").write_bytes(b"x")  # somebody imported it
    assert fingerprint(CONFIG, str(copied), []) == before
    assert telling_file(copied) == copied / "export.json"  # its time changes with every export
    with open(copied / "image.pt2", "ab") as file:
        file.write(b"x")
    assert fingerprint(CONFIG, str(copied), []) != before


@pytest.mark.parametrize("nothing", ["", None])
def test_no_weights_are_no_export(exported, monkeypatch, nothing):
    """Not even in the folder of one."""
    monkeypatch.chdir(exported)
    assert is_export(".") and not is_export(nothing)


def test_its_contrast_is_for_shortlists_alone(loaded_telling, image):
    predictor = GroundingPredictor(loaded_telling)
    with pytest.raises(ConfigError, match="exemplars are asked with weights, and not with an exp"):
        make_exemplar(predictor, image, [[1, 2, 30, 40]], "x", 0.0, None)
