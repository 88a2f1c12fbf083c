"""The tiny model's weights in the files that users have."""

import pytest
import torch

from glipv2_d2.checkpoint import release_state, save_safetensors
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_model
from tests.support.tiny_contrast import tiny_contrast_model
from tests.support.tiny_understanding import tiny_understanding_model


@pytest.fixture(scope="session")
def fused():
    """GLIP-T, tiny. Do not change it."""
    return tiny_model(seed=1)


@pytest.fixture(scope="session")
def official(fused):
    """The weights of `fused` under official names."""
    return official_state(fused.state_dict())


@pytest.fixture(scope="session")
def released(fused, tmp_path_factory):
    """A file as the official code saves it after training, with the weights of `fused`."""
    path = tmp_path_factory.mktemp("released") / "official.pth"
    official = official_state(fused.state_dict(), module=True)
    optimizer = {"state": {0: {"exp_avg": torch.ones(1000)}}, "param_groups": [{"lr": 1e-4}]}
    content = {"model": official, "optimizer": optimizer, "iteration": 12, "model_ema": official}
    torch.save(content, path)
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """A release file of a tiny model that finds something: class scores around a half."""
    state = release_state(tiny_model(**{"head.prior_prob": 0.5}), torch.float32)
    return save_safetensors(state, tmp_path_factory.mktemp("weights") / "tiny.safetensors", {})


@pytest.fixture(scope="session")
def contrast_weights(tmp_path_factory):
    """A release file of the model of `tiny_contrast.py`."""
    state = release_state(tiny_contrast_model(), torch.float32)
    folder = tmp_path_factory.mktemp("contrast")
    return save_safetensors(state, folder / "contrast.safetensors", {})


@pytest.fixture(scope="session")
def understanding_weights(tmp_path_factory):
    """A release file of the model of `tiny_understanding.py`."""
    state = release_state(tiny_understanding_model(), torch.float32)
    folder = tmp_path_factory.mktemp("understanding")
    return save_safetensors(state, folder / "understanding.safetensors", {})
