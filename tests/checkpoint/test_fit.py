"""Do these weights belong to this model?"""

import pytest
import torch
from torch import nn

from glipv2_d2.checkpoint import GLIPCheckpointer, check_weights
from glipv2_d2.errors import CheckpointError
from tests.support.tiny import tiny_model
from tests.support.toy_model import Toy, save


def test_other_model(tmp_path):
    path = save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "w.pth")
    for strict in (True, False):
        with pytest.raises(CheckpointError, match="another model: 0 of the model's 6 weights"):
            GLIPCheckpointer(Toy(), strict=strict).load(path)


def test_other_size(tmp_path):
    path = save(Toy(width=5), tmp_path / "w.pth")
    model = Toy()
    before = model.neck.bias.clone()
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=r"differ in shape \(.*\(5, 3\) in the file"):
            GLIPCheckpointer(model, strict=strict).load(path)
    assert torch.equal(model.neck.bias, before)


def test_weights_of_a_deeper_model_are_refused():
    state = tiny_model(**{"neck.num_blocks": 3}).state_dict()
    with pytest.raises(CheckpointError, match="larger model"):
        check_weights(tiny_model(), state, source="deeper.pth", strict=True)
