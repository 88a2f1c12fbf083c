"""The converter of official weights, from the command line."""

import re
import sys
from pathlib import Path

import pytest
import torch

from glipv2_d2.checkpoint import load_weights, read_safetensors_metadata
from tests.support.official import official_state
from tests.support.tiny import tiny_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import convert_glip_weights


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=1)


@pytest.fixture
def source(model, tmp_path):
    path = tmp_path / "official.pth"
    state = official_state(model.state_dict(), module=True)
    torch.save({"model": state, "optimizer": {"state": {}}, "iteration": 1}, path)
    return path


def run(*arguments):
    return convert_glip_weights.main([str(a) for a in arguments])


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_the_converted_file_loads_and_the_table_accounts_for_all(
    model, source, tmp_path, capsys, suffix
):
    target = tmp_path / "folder" / f"ours{suffix}"
    assert run(source, target) == 0
    loaded = tiny_model()
    load_weights(loaded, target)
    own = loaded.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())

    official = len(official_state(model.state_dict()))
    out = capsys.readouterr().out
    assert f"{official} official tensors, {official - 5} mapped to {len(own)} of ours" in out
    assert "5 not needed" in out and "2  class logits" in out
    assert "No shipped config has a model of this size" in out
    if suffix == ".safetensors":
        assert read_safetensors_metadata(target)["converted_from"] == "official.pth"


def test_a_target_is_not_overwritten_unasked(source, tmp_path, capsys):
    target = tmp_path / "ours.pth"
    target.write_bytes(b"mine")
    assert run(source, target) == 2
    assert "--force" in capsys.readouterr().err and target.read_bytes() == b"mine"
    assert run(source, target, "--force") == 0
    before = source.read_bytes()
    assert run(source, source, "--force") == 2
    assert "target is the source" in capsys.readouterr().err and source.read_bytes() == before


def test_published_sizes_are_compared_with_their_model(model, monkeypatch, source, tmp_path):
    monkeypatch.setattr(convert_glip_weights, "published_config", lambda state: "any")
    config = convert_glip_weights.load_model_config("pretrain/glip_t.py")
    monkeypatch.setattr(convert_glip_weights, "load_model_config", lambda name: config)
    assert run(source, tmp_path / "ours.pth") == 2  # GLIP-T is another size
    assert not (tmp_path / "ours.pth").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda state: {"conv.weight": torch.ones(2)}, "holds no official GLIP"),
        (lambda state: {**state, "module.new.weight": torch.ones(2)}, "'new.weight' .2,. has no"),
    ],
)
def test_what_cannot_be_converted(model, tmp_path, capsys, change, message):
    path = tmp_path / "official.pth"
    torch.save({"model": change(official_state(model.state_dict(), module=True))}, path)
    assert run(path, tmp_path / "ours.pth") == 2
    error = capsys.readouterr().err
    assert "official.pth" in error
    assert re.search(message, error), error
    assert not (tmp_path / "ours.pth").exists()


def test_usage(source, tmp_path, capsys):
    assert run(source, tmp_path / "w.onnx") == 2
    assert "safetensors or .pth" in capsys.readouterr().err
    assert run(tmp_path / "none.pth", tmp_path / "w.pth") == 2
    assert "none.pth" in capsys.readouterr().err
