"""Tiny models that write captions, and their images."""

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.heads import CaptionHead
from tests.support.tiny import tiny_config
from tests.support.tiny_clip import clip_config


def tiny_captioner(language: str = "bert"):
    """A tiny GLIPv2 in evaluation mode, of "bert" or "clip" words; each image has a caption of its
    own, as random weights go."""
    config = {"bert": tiny_config, "clip": clip_config}[language]()
    config._target_ = GLIPv2
    config.caption_head = L(CaptionHead)(
        text_channels="${..neck.text_channels}",
        vocabulary_size={"bert": 30522, "clip": 49408}[language],
        weight=1.0,
    )
    torch.manual_seed(0)
    model = instantiate(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for block in model.neck.blocks:
            block.fusion.gamma_l.fill_(3.0)  # the image matters
            weight = block.dynamic_conv.offset.weight
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.05)
        embedding = model.language_backbone.word_embedding
        embedding.copy_(torch.randn(embedding.shape, generator=generator))
        end = model.tokenizer.encode("").ids[-1]
        model.caption_head.bias[end] = 21.0  # captions end, at different lengths
    return model


def tiny_features(model, count: int = 1, seed: int = 0):
    """Levels of the pyramid of that many images of noise, each of a color of its own."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(count):
        noise = torch.randint(0, 100, (3, 64, 96), generator=generator)
        images.append({"image": noise + torch.randint(0, 156, (3, 1, 1), generator=generator)})
    with torch.no_grad():
        return model.encode(images).features
