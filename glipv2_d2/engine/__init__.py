"""Using and training a model: the predictor, and what train_net.py is made of."""

from glipv2_d2.engine.predictor import GroundingPredictor

__all__ = ["GroundingPredictor"]
