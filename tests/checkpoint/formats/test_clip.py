"""CLIP's weights: what is taken, joined and left out. (tests/modeling compares with open_clip.)"""

import pytest
import torch
from torch import nn

from glipv2_d2.checkpoint.formats import ClipImageTower, ClipTextTower
from glipv2_d2.checkpoint.formats.clip import convert_unicl_text
from glipv2_d2.errors import CheckpointError

LAYER = "text_model.encoder.layers.0.self_attn."


def test_query_key_and_value_become_one():
    state = {f"{LAYER}{x}_proj.weight": torch.full((2, 2), i) for i, x in enumerate("qkv")}
    state["text_model.embeddings.position_ids"] = torch.arange(3)
    (name, value), *others = ClipTextTower().convert(state, nn.Identity()).items()
    assert name == "layers.0.self_attn.in_proj_weight" and not others
    assert value[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_text_weight_without_a_place_is_named():
    with pytest.raises(CheckpointError, match="'gate.weight' has no place"):
        convert_unicl_text({"gate.weight": torch.zeros(1)}, None)
    with pytest.raises(CheckpointError, match="'encoder.gate' has no place"):
        ClipTextTower().convert({"encoder.gate": torch.zeros(1)}, nn.Identity())


def test_the_head_of_an_image_tower_is_left_out_for_a_reason():
    state = {"norm_pre.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert list(ClipImageTower().convert(state, nn.Identity())) == ["norm_pre.weight"]
    assert "common space" in ClipImageTower().explain_left_out("head.weight")
