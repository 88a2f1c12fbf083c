"""A LazyConfig with the model of the tests of exports, and nothing to train it."""

from tests.support.exported_model import small_config

model = small_config()
inference = {"min_size": 64, "max_size": 96, "score_threshold": 0.2}
