"""A backbone's levels that do not fit the anchors or the head are refused, naming both."""

import pytest
import timm
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.structures import ImageList

from glipv2_d2.errors import ConfigError
from glipv2_d2.modeling.proposal_generator import GLIPProposalGenerator
from tests.support.tiny import tiny_config, tiny_glipv2_config, tiny_model


def of_four_levels(model):
    """Detectron2's usual pyramid: P6 is pooled, there is no P7."""
    model.backbone = L(FPN)(
        bottom_up=model.backbone.bottom_up,
        in_features=["res3", "res4", "res5"],
        out_channels=32,
        top_block=L(LastLevelMaxPool)(),
    )
    return model


@pytest.mark.parametrize("config", [tiny_config, tiny_glipv2_config])
def test_four_levels_and_five_anchor_sizes(config):
    """Trained without a word: the coarsest anchors were left out."""
    message = (
        r"levels of model.backbone \(p3 of stride 8, p4 of stride 16, p5 of stride 32, p6 of "
        r"stride 64\) are not those of the anchors \(strides 8, 16, 32, 64, 128\): set model."
    )
    with pytest.raises(ConfigError, match=message):
        instantiate(of_four_levels(config()))


def test_finer_levels_than_anchors():
    model = of_four_levels(tiny_config())
    model.backbone.bottom_up.out_features = ["res2", "res3", "res4", "res5"]
    model.backbone.in_features = ["res2", "res3", "res4", "res5"]
    message = r"p2 of stride 4, .* p6 of stride 64\) are not those .*\(strides 8, 16, 32, 64, 128\)"
    with pytest.raises(ConfigError, match=message):
        instantiate(model)
    model.anchor_generator.strides = [4, 8, 16, 32, 64]
    instantiate(model)


def test_features_that_the_pyramid_is_not_made_for():
    model = tiny_config()
    model.backbone.in_features = model.backbone.bottom_up.out_features = ["res2", "res3", "res4"]
    message = r"strides 8, 16, 32, .* names res2, res3, res4, while .* has res2 of stride 4, res3"
    with pytest.raises(ConfigError, match=message):
        instantiate(model)


@pytest.mark.parametrize("key", ["backbone.bottom_up", "backbone"])
def test_a_backbone_of_timm(key):
    model = tiny_config()
    network = L(timm.create_model)(model_name="resnet18", features_only=True, pretrained=False)
    if key == "backbone":
        model.backbone, model.neck.channels, model.head.channels = network, 32, 32
    else:
        model.backbone.bottom_up = network
    message = rf"model.{key} is a FeatureListNet, .* strides 2, 4, 8, 16, 32: wrap it"
    with pytest.raises(ConfigError, match=message):
        instantiate(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("head.num_levels", 4, "num_levels is 4, and the levels have the strides 8, 16, 32, 64,"),
        ("anchor_generator.aspect_ratios", "[[0.5,1.0]]", "one anchor .* gives 2, 2, 2, 2, 2"),
    ],
)
def test_other_numbers_of_anchors_or_scales(key, value, message):
    with pytest.raises(ConfigError, match=message):
        tiny_model(**{key: value})


def test_proposals_on_the_features_of_another_backbone():
    glip = tiny_model(vocabulary="[cat,dog]")
    proposals = GLIPProposalGenerator(glip)
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    features = glip.backbone(images.tensor)
    found, _ = proposals(images, features)
    assert len(found) == 1
    del features["p7"]
    message = r"an image of 64x96 \(p3 8x12, p4 4x6, p5 2x3, p6 1x2\) .*\(strides 8, 16, 32, 64,"
    with pytest.raises(ConfigError, match=message):
        proposals(images, features)
