"""GLIPv2-B's model: each part has as many parameters as its stated dimensions give."""

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.config import load_model_config

C, L, TOKENS, VOCABULARY = 256, 512, 256, 49408


def linear(inputs, outputs):
    return inputs * outputs + outputs


def norm(channels):
    return 2 * channels


def swin(embed_dim, depths, heads, window):
    total = linear(3 * 4 * 4, embed_dim) + norm(embed_dim)
    for i, (depth, head) in enumerate(zip(depths, heads)):
        d = embed_dim * 2**i
        attention = linear(d, 3 * d) + linear(d, d) + (2 * window - 1) ** 2 * head
        total += depth * (2 * norm(d) + attention + linear(d, 4 * d) + linear(4 * d, d))
        if i < 3:
            total += norm(4 * d) + 4 * d * 2 * d  # patch merging
        if i > 0:
            total += norm(d)  # of the stage's output
    return total


def fpn(channels):
    laterals = sum(linear(c, C) for c in channels)
    return laterals + (3 + 2) * linear(9 * C, C)  # P3 to P5, P6 and P7


def text_layer():
    return 2 * norm(L) + linear(L, 3 * L) + linear(L, L) + linear(L, 4 * L) + linear(4 * L, L)


def tower_block():
    inner = 8 * 256
    fusion = 2 * linear(C, inner) + 2 * linear(L, inner) + linear(inner, C) + linear(inner, L)
    fusion += norm(C) + norm(L) + C + L  # LayerNorms, gammas
    dynamic_conv = 3 * (linear(9 * C, C) + norm(C))  # with GroupNorm
    dynamic_conv += linear(9 * C, 27) + linear(C, 1)  # offsets and masks, scale attention
    dynamic_conv += linear(C, C // 4) + linear(C // 4, 4 * C)  # DyReLU
    return fusion + text_layer() + dynamic_conv


def head():
    words = linear(L, C) + L + 2  # projection, bias_lang, bias0, log_scale
    return words + linear(C, 4) + linear(C, 1) + 5  # boxes, centerness, a scale for each level


@pytest.fixture(scope="module")
def model():
    config = load_model_config("common/models/glipv2_swin_b.py")
    with torch.device("meta"):
        return instantiate(config)


@pytest.mark.parametrize(
    "part, expected",
    [
        ("backbone.bottom_up", swin(128, (2, 2, 18, 2), (4, 8, 16, 32), window=7)),
        ("backbone", swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 7) + fpn((256, 512, 1024))),
        ("language_backbone", (VOCABULARY + TOKENS) * L + 12 * text_layer() + norm(L)),
        ("neck", 6 * tower_block()),
        ("head", head()),
    ],
)
def test_parameters_of_each_part(model, part, expected):
    assert sum(p.numel() for p in model.get_submodule(part).parameters()) == expected


def test_language(model):
    text = model.language_backbone
    assert text.out_channels == L and len(text.layers) == 12
    assert text.layers[0].self_attn.num_heads == 8
    assert text.tokenizer.max_tokens == 256 and text.tokenizer.mask_token_id == 49404
    layers = [*text.layers, *(block.text_layer for block in model.neck.blocks)]
    assert all(layer.norm_first for layer in layers)  # pre-LayerNorm, in the tower, too


def test_colours_are_unicls(model):
    """RGB, and ImageNet's mean and deviation in that order."""
    assert model.input_format == "RGB"
    config = load_model_config("common/models/glipv2_swin_b.py")
    assert [round(v / 255, 3) for v in config.pixel_mean] == [0.485, 0.456, 0.406]
    assert [round(v / 255, 3) for v in config.pixel_std] == [0.229, 0.224, 0.225]
