"""Weights for the tests of this folder."""

import pytest
import torch

from tests.support.tiny import tiny_unfused_model


@pytest.fixture(scope="session")
def unfused():
    """GLIP-T (A), tiny. Do not change it."""
    return tiny_unfused_model(seed=1)


@pytest.fixture
def weights():
    """A state dict of two tensors."""
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
