"""One thread for the model's tests: the tensors are tiny, and sums keep one order."""

import copy

import pytest
import torch

from tests.support.tiny import lively, tiny_model


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared_model():
    """The tiny model in evaluation mode, for tests that leave its weights alone."""
    return lively(tiny_model()).eval()


@pytest.fixture
def model(shared_model):
    """A copy of `shared_model`, free to be changed."""
    return copy.deepcopy(shared_model)
