"""The fusion neck: towers that turn image and text features into fused ones."""

from .bi_attention import BiAttention, BiAttentionFusion
from .deform_conv import DeformConvNorm, modulated_deform_conv2d
from .dyhead import DyHead, DynamicConv
from .single_stream import SingleStreamEncoder
from .vl_tower import VLTower

__all__ = [
    "BiAttention",
    "BiAttentionFusion",
    "DeformConvNorm",
    "DyHead",
    "DynamicConv",
    "SingleStreamEncoder",
    "VLTower",
    "modulated_deform_conv2d",
]
