"""A LazyConfig: the tiny model that answers and writes, with the tiny training."""

from .tiny_train import dataloader, inference, lr_multiplier, optimizer, train
from .tiny_understanding import model
