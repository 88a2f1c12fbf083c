"""A LazyConfig: the tiny model that answers and writes, with the tiny training."""

from pathlib import Path

from detectron2.config import LazyConfig

from tests.support.tiny_understanding import tiny_understanding_config

# Loaded, not imported: each time it registers its data set.
_base = LazyConfig.load(str(Path(__file__).with_name("tiny_train.py")))
dataloader, inference, train = _base.dataloader, _base.inference, _base.train
lr_multiplier, optimizer = _base.lr_multiplier, _base.optimizer
model = tiny_understanding_config()
