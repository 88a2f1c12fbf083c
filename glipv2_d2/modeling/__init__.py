"""The model; importing it registers its parts with Detectron2."""

from .backbone import SwinBackbone, build_fpn
from .meta_arch import GLIP
from .text import LANGUAGE_BACKBONE_REGISTRY, BertLanguageBackbone

__all__ = [
    "GLIP",
    "LANGUAGE_BACKBONE_REGISTRY",
    "BertLanguageBackbone",
    "SwinBackbone",
    "build_fpn",
]
