"""Checkpoint files of every kind, whole, damaged and foreign."""

import logging
import pickle

import pytest
import torch
from safetensors.torch import save_file

from glipv2_d2.checkpoint import (
    load_weights,
    read_checkpoint,
    read_safetensors_metadata,
    weight_names,
)
from glipv2_d2.errors import CheckpointError
from tests.support.tiny_contrast import tiny_contrast_model
from tests.support.toy_model import NotAWeight, assert_same_weights


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"model": w}, lambda w: {"state_dict": w}])
def test_reads_torch_files_wherever_the_weights_lie(tmp_path, weights, wrap):
    path = tmp_path / "w.pth"
    torch.save(wrap(weights), path)
    assert_same_weights(read_checkpoint(path)["model"], weights)


def test_keeps_the_other_entries(tmp_path, weights):
    path = tmp_path / "w.pth"
    torch.save({"model": weights, "iteration": 7, "trainer": {"iteration": 7}}, path)
    read = read_checkpoint(path)
    assert read["iteration"] == 7
    assert read["trainer"] == {"iteration": 7}


def test_our_average_is_taken_and_said_unless_a_run_is_resumed(tmp_path, weights, caplog):
    path = tmp_path / "w.pth"
    shadow = {"module.a.bias": torch.ones(2)}
    torch.save({"model": weights, "ema": {"shadow": shadow, "updates": 3}}, path)
    with caplog.at_level(logging.INFO):
        read = read_checkpoint(path)
    assert_same_weights(read["model"], {**weights, "a.bias": torch.ones(2)})
    assert "w.pth: the moving average of its weights is taken" in caplog.text
    assert_same_weights(read_checkpoint(path, complete=True)["model"], weights)


@pytest.mark.parametrize("key", ["model_ema", "ema", "state_dict_ema"])
@pytest.mark.parametrize("average", [{"a.bias": torch.ones(2)}, {"module": {}}, NotAWeight()])
def test_another_programs_average_is_not_taken_and_named(tmp_path, weights, caplog, key, average):
    path = tmp_path / "w.pth"
    torch.save({"model": weights, key: average}, path)
    assert_same_weights(read_checkpoint(path)["model"], weights)
    assert f"w.pth: its '{key}' beside the weights" in caplog.text
    assert f"torch.save(checkpoint['{key}'], 'average.pth')" in caplog.text


def test_reads_safetensors_with_its_notes(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    halves = {name: value.half() for name, value in weights.items()}
    save_file(halves, str(path), metadata={"seed": "42"})
    assert_same_weights(read_checkpoint(path)["model"], weights)
    assert read_safetensors_metadata(path)["seed"] == "42"


def test_names_of_the_weights(tmp_path, weights):
    torch.save({"model": weights, "iteration": 7}, tmp_path / "w.pth")
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, str(tmp_path / "w.safetensors"))
    arrays = {name: value.numpy() for name, value in weights.items()}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}))
    for name in ("w.pth", "old.pth", "w.safetensors", "w.pkl"):
        assert set(weight_names(tmp_path / name)) == set(weights), name
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        weight_names(tmp_path / "none.pth")


def test_what_was_read_outlives_its_file(tmp_path, weights):
    """A run saves anew where it resumed from."""
    path = tmp_path / "w.pth"
    torch.save({"model": weights, "trainer": {"momentum": torch.ones(1000)}}, path)
    read = read_checkpoint(path, complete=True)
    path.write_bytes(b"")
    assert_same_weights(read["model"], weights)
    assert (read["trainer"]["momentum"] == 1).all()


def test_file_without_weights(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3, "args": {"lr": 0.1}}, path)
    with pytest.raises(CheckpointError, match="holds no weights .its entries: epoch, args"):
        read_checkpoint(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_temperature_without_dimensions_gets_one(tmp_path, suffix):
    """As files have it that were written before `train.fsdp`, which cuts no scalars."""
    model = tiny_contrast_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["contrast.log_temperature"] = torch.tensor(-3.0)
    path = tmp_path / f"old{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"model": state}, path)
    load_weights(model, path)
    assert model.contrast.log_temperature.tolist() == [-3.0]
