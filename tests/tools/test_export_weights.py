"""From a training run's checkpoint to a release file."""

import sys
from pathlib import Path

import pytest
import torch

from glipv2_d2.checkpoint import load_weights, read_checkpoint, read_safetensors_metadata
from glipv2_d2.engine.ema import ModelEMA
from tests.support.official import official_state
from tests.support.tiny import tiny_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import export_weights

CONFIG = "tests/support/tiny_detect.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = tiny_model()
    ema = ModelEMA(model)
    ema.shadow["head.bias0"].fill_(0.25)
    path = tmp_path_factory.mktemp("run") / "model_final.pth"
    state = {"model": model.state_dict(), "ema": ema.state_dict(), "iteration": 99}
    torch.save(state, path)
    return path


def run(checkpoint, target, *options):
    arguments = [str(checkpoint), str(target), "--config-file", CONFIG]
    notes = ["--command", "make train-demo", "--machine", "2 CPU cores", "--seed", "42"]
    return export_weights.main([*arguments, *notes, *options])


def test_safetensors_with_notes_and_averaged_weights(checkpoint, tmp_path, capsys):
    target = tmp_path / "w.safetensors"
    assert run(checkpoint, target, "--hours", "1.5") == 0
    notes = read_safetensors_metadata(target)
    expected = {"command": "make train-demo", "machine": "2 CPU cores", "seed": "42"}
    assert expected.items() <= notes.items()
    assert (notes["iterations"], notes["hours"], notes["averaged"]) == ("100", "1.5", "True")
    model = tiny_model(seed=1)
    load_weights(model, target)
    assert (model.head.bias0 == 0.25).all()
    assert "MB" in capsys.readouterr().out


def test_pth_for_other_programs(checkpoint, tmp_path):
    target = tmp_path / "w.pth"
    assert run(checkpoint, target, "--precision", "float32") == 0
    state = read_checkpoint(target)["model"]
    assert all(v.dtype == torch.float32 for v in state.values() if v.is_floating_point())


def test_an_official_checkpoint(tmp_path):
    model = tiny_model(seed=1)
    official, target = tmp_path / "official.pth", tmp_path / "w.safetensors"
    torch.save({"model": official_state(model.state_dict(), module=True)}, official)
    # The folder of the tiny language model holds no weights: asking for them would fail.
    assert run(official, target, "model.language_backbone.pretrained=True") == 0
    state = read_checkpoint(target)["model"]
    assert state.keys() == model.state_dict().keys()
    assert torch.equal(state["head.box_scales"], model.head.box_scales.half())


def test_errors(checkpoint, tmp_path, capsys):
    assert run(checkpoint, tmp_path / "w.onnx") == 2
    assert "safetensors or .pth" in capsys.readouterr().err
    assert run(tmp_path / "none.pth", tmp_path / "w.pth") == 2
    assert "none.pth" in capsys.readouterr().err
