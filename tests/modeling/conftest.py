"""One thread for the model's tests: the tensors are tiny, and sums keep one order."""

import copy

import pytest
import torch

from tests.support.tiny import lively, tiny_model
from tests.support.tiny_captions import tiny_captioner, tiny_features


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


@pytest.fixture(scope="module", params=["bert", "clip"])
def captioner(request):
    """A tiny model that writes captions, of BERT's words and of CLIP's."""
    return tiny_captioner(request.param)


@pytest.fixture(scope="module")
def features(captioner):
    """What `captioner` sees in four images."""
    return tiny_features(captioner, 4)
