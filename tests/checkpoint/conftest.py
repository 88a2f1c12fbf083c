"""A tiny GLIP of each kind, and its weights as the official code would have saved them."""

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from glipv2_d2.modeling.fusion import DyHead
from tests.support.official import official_state
from tests.support.tiny import tiny_config, tiny_model


def tiny_glip_t_a(seed=0):
    """The tiny model without deep fusion, as GLIP-T (A)."""
    config = tiny_config()
    config.neck = L(DyHead)(
        num_blocks=2, channels="${..backbone.out_channels}", offset_rule="resized"
    )
    config.head.text_channels = 32
    torch.manual_seed(seed)
    return instantiate(config)


@pytest.fixture(scope="session")
def fused():
    """GLIP-T, tiny. Do not change it."""
    return tiny_model(seed=1)


@pytest.fixture(scope="session")
def unfused():
    """GLIP-T (A), tiny. Do not change it."""
    return tiny_glip_t_a(seed=1)


@pytest.fixture(scope="session")
def official(fused):
    """The weights of `fused` under official names."""
    return official_state(fused.state_dict())


@pytest.fixture
def weights():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


@pytest.fixture(scope="session")
def released(fused, tmp_path_factory):
    """A file as the official code saves it after training."""
    path = tmp_path_factory.mktemp("released") / "glip.pth"
    official = official_state(fused.state_dict(), module=True)
    optimizer = {"state": {0: {"exp_avg": torch.ones(1000)}}, "param_groups": [{"lr": 1e-4}]}
    content = {"model": official, "optimizer": optimizer, "iteration": 12, "model_ema": official}
    torch.save(content, path)
    return path


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
