"""Files of each kind: whole, damaged, and of another kind than they say."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glipv2_d2.checkpoint import GLIPCheckpointer, read_checkpoint
from glipv2_d2.errors import CheckpointError
from tests.support.toy_model import NotAWeight


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


def test_a_torchscript_archive_is_named_with_the_way_out(tmp_path):
    """As OpenAI publishes CLIP."""
    path = tmp_path / "RN50.pt"
    with pytest.warns(FutureWarning):  # PyTorch has deprecated the kind
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointError, match=r"TorchScript archive.*torch.save\(torch.jit.load"):
        read_checkpoint(path)
