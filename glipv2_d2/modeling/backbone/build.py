"""Door for yacs users: a GLIP's vision backbone inside any Detectron2 model."""

from detectron2.config import CfgNode, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone

from ...config import load_model_config

__all__ = ["build_glip_backbone"]


@BACKBONE_REGISTRY.register()
def build_glip_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """The backbone (Swin with FPN, "p3".."p7") of the LazyConfig that MODEL.GLIP.CONFIG names.

    With `MODEL.BACKBONE.NAME: build_glip_backbone` a stock RetinaNet or Mask R-CNN runs on it.
    """
    return instantiate(load_model_config(cfg.MODEL.GLIP.CONFIG).backbone)
