"""Registered meta-architectures."""

from .cloc import CLOC
from .glip import GLIP
from .glipv2 import GLIPv2

__all__ = ["CLOC", "GLIP", "GLIPv2"]
