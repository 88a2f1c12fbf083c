"""Vision backbones, registered with Detectron2."""

from .clip_visual import ClipImageEncoder, ClipResNetBackbone, ClipViTBackbone
from .coswin import CoSwinBackbone
from .fpn import build_fpn, build_glip_backbone
from .swin import SwinBackbone

__all__ = [
    "ClipImageEncoder",
    "ClipResNetBackbone",
    "ClipViTBackbone",
    "CoSwinBackbone",
    "SwinBackbone",
    "build_fpn",
    "build_glip_backbone",
]
