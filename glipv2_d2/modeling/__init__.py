"""The model; importing it registers its parts with Detectron2."""

from .backbone import SwinBackbone, build_fpn
from .meta_arch import CLOC, GLIP, GLIPv2
from .text import (
    LANGUAGE_BACKBONE_REGISTRY,
    BertLanguageBackbone,
    ClipLanguageBackbone,
)
from .tta import GLIPWithTTA

__all__ = [
    "CLOC",
    "GLIP",
    "GLIPWithTTA",
    "GLIPv2",
    "LANGUAGE_BACKBONE_REGISTRY",
    "BertLanguageBackbone",
    "ClipLanguageBackbone",
    "SwinBackbone",
    "build_fpn",
]
