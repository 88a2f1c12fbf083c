"""Using and training a model: the predictors, and what `glip train` does."""

from .cloc_predictor import CLOCPredictor
from .predictor import GroundingPredictor

__all__ = ["CLOCPredictor", "GroundingPredictor"]
