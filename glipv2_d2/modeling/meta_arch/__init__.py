"""Registered meta-architectures."""

from .glip import GLIP

__all__ = ["GLIP"]
