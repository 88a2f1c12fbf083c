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
