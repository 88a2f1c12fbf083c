"""ImageNet weights become a SwinBackbone's."""

import pytest
import timm
import torch
from detectron2.config import instantiate

from glipv2_d2.checkpoint.formats import ImageNetSwin
from glipv2_d2.config import load_model_config


@pytest.mark.parametrize(
    ("config", "timm_name"),
    [
        ("glip_swin_t", "swin_tiny_patch4_window7_224"),
        ("glip_swin_b", "swin_base_patch4_window12_384"),
        ("glip_swin_l", "swin_large_patch4_window12_384"),
    ],
)
def test_imagenet_weights_have_a_place_each(config, timm_name):
    node = load_model_config(f"common/models/{config}.py").backbone.bottom_up
    with torch.device("meta"):
        ours, theirs = instantiate(node), timm.create_model(timm_name)
    shapes = {n: p.shape for n, p in ImageNetSwin().convert(theirs.state_dict(), ours).items()}
    own = {n: p.shape for n, p in ours.state_dict().items() if not n.startswith("out_norms.")}
    assert shapes == own
