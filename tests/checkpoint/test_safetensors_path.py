"""`safetensors:FILE` in Detectron2's own checkpointer, which reads no .safetensors."""

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from glipv2_d2.checkpoint import GLIPCheckpointer, save_safetensors
from glipv2_d2.errors import CheckpointError
from tests.support.tiny import tiny_model


@pytest.fixture
def download_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save(seed, path):
    model = tiny_model(seed=seed)
    save_safetensors(model.state_dict(), path, {})
    return model.head.bbox_pred.weight


def load(path):
    model = tiny_model()
    DetectionCheckpointer(model).load(path)
    return model.head.bbox_pred.weight


def test_detectron2s_checkpointer_reads_it_and_notices_another_file(
    download_cache, tmp_path, caplog
):
    path = tmp_path / "w.safetensors"
    expected = save(1, path)
    assert torch.equal(load(f"safetensors:{path}"), expected)
    assert torch.equal(load(f"safetensors:{path}"), expected)
    assert len(list(download_cache.rglob("*.pth"))) == 1  # made once
    expected = save(2, path)
    assert torch.equal(load(f"safetensors:{path}"), expected)
    assert "not found in the checkpoint" not in caplog.text


def test_our_own_checkpointer_reads_the_file_itself(download_cache, tmp_path):
    path = tmp_path / "w.safetensors"
    expected = save(1, path)
    model = tiny_model()
    GLIPCheckpointer(model, strict=True).load(f"safetensors:{path}")
    assert torch.equal(model.head.bbox_pred.weight, expected)
    assert not download_cache.exists()


def test_a_file_that_is_not_there(download_cache, tmp_path):
    for checkpointer in (DetectionCheckpointer, GLIPCheckpointer):
        with pytest.raises(CheckpointError, match="there is no checkpoint '.*absent.safetensors'"):
            checkpointer(tiny_model()).load(f"safetensors:{tmp_path}/absent.safetensors")
