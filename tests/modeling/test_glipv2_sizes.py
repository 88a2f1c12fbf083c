"""GLIPv2-T, -B and -H: each part has as many parameters as its stated dimensions give."""

import functools

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.config import get_config, load_model_config
from tests.support import parameter_counts as counts
from tests.support.tiny import lively, tiny_input

C = 256  # of the pyramid, in all sizes
BERT, CLIP = 30522, 49408  # entries of the vocabularies


def parts(image, words, text, vocabulary, blocks, mask):
    """Parameters by part. words: L; mask: channels, scales, layers, norm of the hourglass."""
    return {
        "backbone": image,
        "language_backbone": text,
        "neck": counts.tower(blocks, C, words),
        "head": counts.grounding_head(C, words),
        "contrast": counts.contrast(C, words, embedding=64),
        "mlm_head": counts.mlm_head(words, vocabulary),
        "mask_head": counts.mask_head(C, words, *mask),
    }


# Table 8 names the encoders. Swin-T and -B: Liu et al. 2021, Section 3.3; BERT-base: Devlin et al.
# 2019; CLIP's text transformer: Radford et al. 2021, for 256 tokens; CoSwin-H: what
# common/models/glipv2_coswin_h.py says. The hourglass: Appendix D.1.
EXPECTED = {
    "t": parts(
        counts.swin(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7) + counts.fpn((192, 384, 768), C),
        words=768,
        text=counts.bert(768, layers=12, vocabulary=BERT, positions=512),
        vocabulary=BERT,
        blocks=6,
        mask=(256, 1, 1),
    ),
    "b": parts(
        counts.swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 7) + counts.fpn((256, 512, 1024), C),
        words=512,
        text=counts.clip_text(512, layers=12, vocabulary=CLIP, positions=256),
        vocabulary=CLIP,
        blocks=6,
        mask=(256, 1, 1),
    ),
    "h": parts(
        counts.swin(352, (2, 2, 16, 2), (11, 22, 44, 88), window=12, convolutional=True)
        + counts.fpn((704, 1408, 2816), C),
        words=512,
        text=counts.clip_text(512, layers=12, vocabulary=CLIP, positions=256),
        vocabulary=CLIP,
        blocks=8,
        mask=(384, 2, 4, "GN"),
    ),
}


def whole_config(size):
    """The model of pre-training with the mask head that is added afterwards: all parts."""
    model = get_config(f"pretrain/glipv2_{size}.py").model
    model.mask_head = get_config(f"mask/glipv2_{size}_mask.py").model.mask_head
    model.language_backbone.pretrained = False
    return model


@functools.lru_cache
def on_meta(size):
    with torch.device("meta"):
        return instantiate(whole_config(size))


def by_part(model):
    found = {name: sum(p.numel() for p in m.parameters()) for name, m in model.named_children()}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("size", EXPECTED)
def test_parameters_of_each_part(size):
    model = on_meta(size)
    assert by_part(model) == EXPECTED[size]
    # Nothing lies outside the parts.
    assert sum(p.numel() for p in model.parameters()) == sum(EXPECTED[size].values())


def test_the_formulas_give_the_official_number():
    """The official GLIP-T's, without `cls_logits`: its parts are those of GLIPv2-T (Section 4)."""
    glip = ("backbone", "language_backbone", "neck", "head")
    assert sum(EXPECTED["t"][part] for part in glip) == 231_759_662


def test_t_at_its_real_size(monkeypatch):
    """Random weights on the CPU, and what a question with two names brings."""
    # Normal instead of uniform numbers of PyTorch's size: their drawing takes a third of the time.
    monkeypatch.setattr(
        torch.nn.init,
        "kaiming_uniform_",
        lambda tensor, **_: tensor.data.normal_(std=(3 * tensor[0].numel()) ** -0.5),
    )
    torch.manual_seed(0)
    model = instantiate(whole_config("t")).eval()
    assert by_part(model) == EXPECTED["t"]
    with torch.no_grad():
        (output,) = lively(model)([tiny_input(names=("cat", "red kite"))])
    found = output["instances"]
    assert len(found) > 20 and found.image_size == (64, 96)
    assert found.scores.isfinite().all() and (found.pred_boxes.area() > 0).all()
    assert set(found.pred_phrases) == {"cat", "red kite"}
    assert found.pred_masks.shape == (len(found), 64, 96)


@pytest.mark.parametrize("size", ["b", "h"])
def test_language_is_clips(size):
    model = on_meta(size)
    text = model.language_backbone
    assert text.out_channels == 512 and len(text.layers) == 12
    assert text.layers[0].self_attn.num_heads == 8
    assert text.tokenizer.max_tokens == 256 and text.tokenizer.mask_token_id == 49404
    layers = [*text.layers, *(block.text_layer for block in model.neck.blocks)]
    assert all(layer.norm_first for layer in layers)  # pre-LayerNorm, in the tower, too


def test_colors_are_unicls():
    """RGB, and ImageNet's mean and deviation in that order."""
    config = load_model_config("common/models/glipv2_swin_b.py")
    assert config.input_format == "RGB"
    assert [round(v / 255, 3) for v in config.pixel_mean] == [0.485, 0.456, 0.406]
    assert [round(v / 255, 3) for v in config.pixel_std] == [0.229, 0.224, 0.225]
