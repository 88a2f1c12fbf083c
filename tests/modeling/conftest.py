"""One thread for the model's tests: the tensors are tiny, and sums keep one order."""

import copy

import pytest
import torch

from tests.tiny import tiny_model


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _lively(model):
    """Scores all over (0, 1), distinct boxes: without it an untrained GLIP detects nothing."""
    generator = torch.Generator().manual_seed(1)
    head = model.head
    with torch.no_grad():
        for parameter, spread in (
            (head.bbox_pred.weight, 0.02),
            (head.centerness.weight, 0.02),
            (head.text_projection.weight, 0.3),
            (head.bias_lang, 0.5),
        ):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
        head.bias0.zero_()
        # Offsets and masks are zero in a new model: let them matter.
        for block in model.neck.blocks:
            weight = block.dynamic_conv.offset.weight
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
    return model


@pytest.fixture(scope="session")
def shared_model():
    """The tiny model in evaluation mode, for tests that leave its weights alone."""
    return _lively(tiny_model()).eval()


@pytest.fixture
def model(shared_model):
    """A copy of `shared_model`, free to be changed."""
    return copy.deepcopy(shared_model)
