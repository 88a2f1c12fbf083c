"""Checkpoint files of every kind, whole, damaged and foreign."""

import logging
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glipv2_d2.checkpoint import (
    GLIPCheckpointer,
    read_checkpoint,
    read_safetensors_metadata,
    weight_names,
)
from glipv2_d2.errors import CheckpointError


class NotAWeight:
    """What an unpickler must not build."""


@pytest.fixture
def weights():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def assert_same(read, weights):
    assert set(read) == set(weights)
    for name, value in weights.items():
        assert torch.equal(read[name].float(), value)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"model": w}, lambda w: {"state_dict": w}])
def test_reads_torch_files_wherever_the_weights_lie(tmp_path, weights, wrap):
    path = tmp_path / "w.pth"
    torch.save(wrap(weights), path)
    assert_same(read_checkpoint(path)["model"], weights)


def test_keeps_the_other_entries(tmp_path, weights):
    path = tmp_path / "w.pth"
    torch.save({"model": weights, "iteration": 7, "trainer": {"iteration": 7}}, path)
    read = read_checkpoint(path)
    assert read["iteration"] == 7
    assert read["trainer"] == {"iteration": 7}


@pytest.mark.parametrize(
    "name",
    [
        "module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "model.{}",
        "model.module.{}", "module.model.{}", "model._orig_mod.{}", "_fsdp_wrapped_module.{}",
    ],
)  # fmt: skip
def test_names_without_wrappers(tmp_path, weights, name):
    wrapped = {name.format(n): value for n, value in weights.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "w.pth")
    save_file(wrapped, str(tmp_path / "w.safetensors"))
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        assert_same(read_checkpoint(path)["model"], weights)
        assert set(weight_names(path)) == set(weights)


def test_a_part_that_is_called_model_keeps_its_name(tmp_path):
    weights = {"model.weight": torch.ones(1), "head.model.weight": torch.zeros(1)}
    torch.save(weights, tmp_path / "w.pth")
    assert_same(read_checkpoint(tmp_path / "w.pth")["model"], weights)
    torch.save({"encoder._orig_mod.weight": torch.ones(1)}, tmp_path / "w.pth")
    assert list(read_checkpoint(tmp_path / "w.pth")["model"]) == ["encoder.weight"]


def test_our_average_is_taken_and_said_unless_a_run_is_resumed(tmp_path, weights, caplog):
    path = tmp_path / "w.pth"
    shadow = {"module.a.bias": torch.ones(2)}
    torch.save({"model": weights, "ema": {"shadow": shadow, "updates": 3}}, path)
    with caplog.at_level(logging.INFO):
        read = read_checkpoint(path)
    assert_same(read["model"], {**weights, "a.bias": torch.ones(2)})
    assert "w.pth: the moving average of its weights is taken" in caplog.text
    assert_same(read_checkpoint(path, complete=True)["model"], weights)


@pytest.mark.parametrize("key", ["model_ema", "ema", "state_dict_ema"])
@pytest.mark.parametrize("average", [{"a.bias": torch.ones(2)}, {"module": {}}, NotAWeight()])
def test_another_programs_average_is_not_taken_and_named(tmp_path, weights, caplog, key, average):
    path = tmp_path / "w.pth"
    torch.save({"model": weights, key: average}, path)
    assert_same(read_checkpoint(path)["model"], weights)
    assert f"w.pth: its '{key}' beside the weights" in caplog.text
    assert f"torch.save(checkpoint['{key}'], 'average.pth')" in caplog.text


def test_reads_safetensors_with_its_notes(tmp_path, weights):
    path = tmp_path / "w.safetensors"
    halves = {name: value.half() for name, value in weights.items()}
    save_file(halves, str(path), metadata={"seed": "42"})
    assert_same(read_checkpoint(path)["model"], weights)
    assert read_safetensors_metadata(path)["seed"] == "42"


def test_reads_a_zoo_pickle(tmp_path):
    path = tmp_path / "R-50.pkl"
    model = {"stem.conv1.weight": np.ones((2, 3), np.float32)}
    path.write_bytes(pickle.dumps({"model": model, "__author__": "someone"}, protocol=2))
    read = read_checkpoint(path)
    assert read["__author__"] == "someone"
    assert torch.equal(read["model"]["stem.conv1.weight"], torch.ones(2, 3))


def test_refuses_to_unpickle_foreign_objects_in_a_zoo_pickle(tmp_path):
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"model": {}, "config": NotAWeight()}))
    with pytest.raises(CheckpointError, match="NotAWeight.*re-save only the weights"):
        read_checkpoint(path)


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
    assert_same(read["model"], weights)
    assert (read["trainer"]["momentum"] == 1).all()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_truncated_file(tmp_path, weights, name, keep):
    path = tmp_path / name
    torch.save(weights, path) if name.endswith(".pth") else save_file(weights, str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content, hint",
    [
        (b"<html><body>Not found</body></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x00\x01\x02\x03" * 20, "truncated or another kind|not a whole"),
        (b"", "empty"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_other_content(tmp_path, content, hint, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=hint):
        read_checkpoint(path)


def test_missing_folder_and_unknown_suffix(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "w.pth")
    for load in (read_checkpoint, GLIPCheckpointer(torch.nn.Linear(1, 1)).load):
        with pytest.raises(CheckpointError, match="is a folder"):
            load(tmp_path)
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="not a kind of checkpoint.*safetensors"):
        read_checkpoint(tmp_path / "w.onnx")


def test_file_without_weights(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"epoch": 3, "args": {"lr": 0.1}}, path)
    with pytest.raises(CheckpointError, match="holds no weights .its entries: epoch, args"):
        read_checkpoint(path)
    torch.save([torch.zeros(1)], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(path)
