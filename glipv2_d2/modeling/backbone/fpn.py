"""Feature pyramid P3..P7 as GLIP has it: Detectron2's FPN with P6 and P7 on top of P5."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelP6P7
from torch import nn
from torchvision.ops import drop_block2d

from ...config import load_model_config
from ...errors import ConfigError
from ..levels import level_strides
from ..precision import without_autocast

__all__ = ["build_fpn", "build_glip_backbone"]


class _TopBlock(LastLevelP6P7):
    """P6 and P7 in float32 always.

    PyTorch's bf16 convolution on CPU returns an uninitialized weight gradient for a stride-2 3x3
    kernel on a 1x1 map (seen with 2.15), which P6 is for images up to 64 pixels.
    """

    def forward(self, c5: torch.Tensor) -> list[torch.Tensor]:
        with without_autocast(c5.device.type):
            return super().forward(c5.to(self.p6.weight.dtype))


def build_fpn(
    bottom_up: Backbone,
    in_features: Sequence[str] = ("res3", "res4", "res5"),
    out_channels: int = 256,
    drop_block: float = 0.0,
) -> FPN:
    """FPN over three stages of strides 8, 16, 32, giving "p3".."p7" with strides 8..128.

    P6 is a stride-2 convolution of P5 (not of the last stage), P7 one of relu(P6).

    Args:
        bottom_up: any Detectron2 backbone with these features: SwinBackbone, ResNet, RegNet, ...
        drop_block: probability of DropBlock on the merged P3 and P4 in training; the official GLIP
            trains with 0.3.

    Raises:
        ConfigError: `bottom_up` has no such features, or they have other strides.
    """
    strides = level_strides(bottom_up, "model.backbone.bottom_up")
    if [strides.get(name) for name in in_features] != [8, 16, 32]:
        shown = ", ".join(f"{name} of stride {stride}" for name, stride in strides.items())
        raise ConfigError(
            f"the pyramid is built on levels of strides 8, 16, 32, and model.backbone.in_features "
            f"names {', '.join(in_features)}, while model.backbone.bottom_up has {shown}"
        )
    fpn = FPN(
        bottom_up=bottom_up,
        in_features=list(in_features),
        out_channels=out_channels,
        top_block=_TopBlock(out_channels, out_channels, in_feature="p5"),
    )
    # A forward hook, so that parameter names and the top-down path stay those of the stock FPN.
    if drop_block > 0:
        for level in (fpn.fpn_output3, fpn.fpn_output4):
            level.register_forward_pre_hook(_DropBlockHook(drop_block))
    return fpn


@BACKBONE_REGISTRY.register()
def build_glip_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """For yacs users: the backbone (Swin with FPN) of the LazyConfig that MODEL.GLIP.CONFIG names.

    With `MODEL.BACKBONE.NAME: build_glip_backbone` a stock RetinaNet or Mask R-CNN runs on it.
    """
    return instantiate(load_model_config(cfg.MODEL.GLIP.CONFIG).backbone)


class _DropBlockHook:
    """Forward pre-hook; a class, because a model with a local function in it cannot be pickled."""

    part_of_model = True  # nobody's who watches the model, see CudaGraphs

    def __init__(self, probability: float):
        self.probability = probability

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (drop_block2d(inputs[0], self.probability, 3, training=module.training),)
