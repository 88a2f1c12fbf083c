"""From dataset dicts to model inputs."""

from .grounding import GroundingDatasetMapper

__all__ = ["GroundingDatasetMapper"]
