"""What release files hold."""

import pytest
import torch

from glipv2_d2.checkpoint import (
    load_weights,
    read_safetensors_metadata,
    release_state,
    save_safetensors,
)
from glipv2_d2.errors import CheckpointError
from tests.support.toy_model import Toy


def test_weights_round_trip_as_float16_without_the_frozen_language_backbone(tmp_path):
    model = Toy()
    state = release_state(model)
    assert not any(name.startswith("language_backbone") for name in state)
    assert all(value.dtype == torch.float16 for value in state.values())
    path = save_safetensors(state, tmp_path / "w.safetensors", {"seed": 42})
    assert read_safetensors_metadata(path)["seed"] == "42"

    other = Toy()
    kept = other.language_backbone.weight.clone()
    load_weights(other, path)
    assert other.neck.weight.dtype == torch.float32
    torch.testing.assert_close(other.neck.weight, model.neck.weight, atol=1e-3, rtol=1e-3)
    assert torch.equal(other.language_backbone.weight, kept)


@pytest.mark.parametrize("pretrained, frozen", [(None, True), ("minilm", False)])
def test_a_trained_language_backbone_must_be_in_the_file(tmp_path, pretrained, frozen):
    path = save_safetensors(release_state(Toy()), tmp_path / "w.safetensors", {})
    model = Toy(pretrained=pretrained, frozen=frozen)
    with pytest.raises(CheckpointError, match="2 are missing, .* language_backbone.weight"):
        load_weights(model, path)
    assert "language_backbone.weight" in release_state(model)


def test_release_refuses_what_float16_cannot_hold():
    model = Toy()
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="head.weight.*float32"):
        release_state(model)
    assert torch.isfinite(release_state(model, torch.float32)["head.weight"]).all()
