"""Registered meta-architectures."""

from .glip import GLIP
from .glipv2 import GLIPv2

__all__ = ["GLIP", "GLIPv2"]
