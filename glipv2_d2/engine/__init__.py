"""Using and training a model: the predictor, and what `glip train` does."""

from .predictor import GroundingPredictor

__all__ = ["GroundingPredictor"]
