"""GLIP's tower on Detectron2's own ResNet-FPN: only the bottom of the backbone is replaced."""

from detectron2.config import LazyCall as L
from detectron2.modeling.backbone import BasicStem, ResNet

from ..common.recipes.scenes import dataloader, inference, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = L(ResNet)(
    stem=L(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
    stages=L(ResNet.make_default_stages)(depth=18, norm="BN"),
    out_features=["res3", "res4", "res5"],
)
train.output_dir = "./output/scenes_resnet"
