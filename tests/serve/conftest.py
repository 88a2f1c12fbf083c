"""A server's parts around the tiny model."""

import pytest

from glipv2_d2.engine.predictor import GroundingPredictor
from tests.support.tiny_understanding import tiny_understanding_model


@pytest.fixture(scope="session")
def serving_predictor():
    """It detects, segments, answers and writes; four requests are a batch."""
    model = tiny_understanding_model()
    return GroundingPredictor(model, min_size=64, max_size=96, score_threshold=0.2, batch_size=4)
