"""From dataset dicts to model inputs."""

from glipv2_d2.data.mappers.grounding import GroundingDatasetMapper

__all__ = ["GroundingDatasetMapper"]
