"""Using and training a model: the predictor, and what train_net.py is made of."""

from .predictor import GroundingPredictor

__all__ = ["GroundingPredictor"]
