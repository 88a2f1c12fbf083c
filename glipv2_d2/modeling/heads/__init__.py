"""Heads on the fused features."""

from .grounding import GroundingHead, GroundingOutput

__all__ = ["GroundingHead", "GroundingOutput"]
