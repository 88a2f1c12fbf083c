"""Loaders and registrations of data sets."""

from .coco_like import load_coco_style_json, register_coco_style
from .glip_tsv import load_glip_tsv
from .mdetr import load_mdetr_json
from .odinw import odinw_names
from .odvg import load_odvg
from .register import (
    GROUNDING_FORMATS,
    register_coco_dataset,
    register_grounding_dataset,
)
from .tar_shards import load_tar_shards

__all__ = [
    "GROUNDING_FORMATS",
    "load_coco_style_json",
    "load_glip_tsv",
    "load_mdetr_json",
    "load_odvg",
    "load_tar_shards",
    "odinw_names",
    "register_coco_dataset",
    "register_coco_style",
    "register_grounding_dataset",
]
