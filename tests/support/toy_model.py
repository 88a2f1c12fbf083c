"""A model of three layers with the part names of a GLIP, for tests of weights."""

import torch
from torch import nn


class Toy(nn.Module):
    def __init__(self, width=4, pretrained="minilm", frozen=True):
        super().__init__()
        self.language_backbone = nn.Linear(3, width)
        self.language_backbone.pretrained = pretrained
        self.language_backbone.requires_grad_(not frozen)
        self.neck = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)


class NotAWeight:
    """What an unpickler must not build."""


def assert_same_weights(read, weights):
    assert set(read) == set(weights)
    for name, value in weights.items():
        assert torch.equal(read[name].float(), value)


def save(model, path, **more):
    torch.save({"model": model.state_dict(), **more}, path)
    return str(path)
