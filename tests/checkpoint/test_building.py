"""What would be trained from random weights without anybody having said so."""

import logging

import pytest
import torch
from omegaconf import OmegaConf

from glipv2_d2.checkpoint import random_parts
from glipv2_d2.config import get_config
from glipv2_d2.engine.setup import warn_of_random_parts

IMAGE, TEXT = "backbone.bottom_up.pretrained", "language_backbone.pretrained"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("pretrain/glip_t_a.py", [IMAGE]),
        ("pretrain/glip_t.py", [IMAGE]),
        ("pretrain/glip_l.py", [IMAGE]),
        ("pretrain/glip_clip.py", [IMAGE]),
        ("pretrain/glipv2_t.py", [IMAGE]),
        ("pretrain/glipv2_b.py", [TEXT, IMAGE]),
        ("pretrain/glipv2_h.py", [IMAGE]),  # CLIP's text transformer is fetched
        ("vqa/clip_vil_vqa.py", ["backbone.pretrained"]),
        ("demo/scenes.py", []),  # on purpose
        ("demo/scenes_resnet.py", []),
        ("demo/scenes_mask_rcnn.py", []),
    ],
)
def test_what_a_recipe_leaves_random_as_it_is(config, expected):
    assert random_parts(get_config(config).model, "") == expected


def test_weights_that_are_given_or_not_wanted_are_not_missed(tmp_path):
    model = get_config("pretrain/glipv2_b.py").model
    for names, left in (
        (
            ["image_encoder.patch_embed.proj.weight", "text_encoder.resblocks.0.ln_1.bias"],
            [],
        ),  # UniCL
        (["backbone.bottom_up.patch_embed.proj.weight"], [TEXT]),
        (["neck.x"], [TEXT, IMAGE]),
    ):
        torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "weights.pth")
        assert random_parts(model, tmp_path / "weights.pth") == left
    assert random_parts(model, "https://somewhere/weights.pth") == []
    model.backbone.bottom_up.pretrained, model.language_backbone.pretrained = "swin.pth", False
    assert random_parts(model, "") == []


def test_the_warning_names_the_parts_and_the_options(caplog):
    config = get_config("pretrain/glipv2_b.py")
    warn_of_random_parts(config)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert "model.language_backbone and model.backbone.bottom_up will be trained from scr" in text
    for option in (f"model.{IMAGE}=FILE_OR_TIMM_NAME", f"model.{TEXT}=True", "train.init_checkp"):
        assert option in text
    caplog.clear()
    OmegaConf.update(config, f"model.{IMAGE}", False)
    OmegaConf.update(config, f"model.{TEXT}", False)
    warn_of_random_parts(config)
    assert not caplog.records
