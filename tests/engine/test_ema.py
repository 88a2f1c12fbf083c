"""The moving average of the weights."""

import pytest
import torch
from torch import nn

from glipv2_d2.engine.ema import ModelEMA


def test_average_follows_swaps_and_returns():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    ema = ModelEMA(model, decay=0.5, warmup=False)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    ema.update()
    version = model.weight._version
    with ema.applied():
        torch.testing.assert_close(model.weight.detach(), start + 0.5)
        assert model.weight._version > version  # by which the text cache sees the change
    torch.testing.assert_close(model.weight.detach(), start + 1)
    assert set(ema.shadow) == {"weight"}

    other = ModelEMA(nn.Linear(2, 2).requires_grad_(True))
    with pytest.raises(ValueError, match="other parameters.*bias"):
        other.load_state_dict(ema.state_dict())


def test_average_returns_after_an_error():
    model = nn.Linear(1, 1)
    ema = ModelEMA(model)
    with torch.no_grad():
        model.weight.fill_(3.0)
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    assert model.weight.item() == 3.0


def test_average_warms_up():
    model = nn.Linear(1, 1)
    ema = ModelEMA(model, decay=0.999)
    with torch.no_grad():
        model.weight.fill_(3.0)
    for _ in range(20):
        ema.update()
    assert abs(ema.shadow["weight"].item() - 3.0) < 0.05
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        ModelEMA(model, decay=1.0)
