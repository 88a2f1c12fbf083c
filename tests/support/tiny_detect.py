"""A LazyConfig with the tiny model and nothing to train it."""

from tests.support.tiny import tiny_config

model = tiny_config()
inference = {"min_size": 64, "max_size": 96, "score_threshold": 0.2}
