"""Vision backbones, registered with Detectron2."""

from .clip_visual import ClipResNetBackbone, ClipViTBackbone
from .coswin import CoSwinBackbone
from .fpn import build_fpn, build_glip_backbone
from .swin import SwinBackbone

__all__ = [
    "ClipResNetBackbone",
    "ClipViTBackbone",
    "CoSwinBackbone",
    "SwinBackbone",
    "build_fpn",
    "build_glip_backbone",
]
