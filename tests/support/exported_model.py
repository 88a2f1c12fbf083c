"""The model that is exported, what it and its export are asked, and that they answer the same."""

import numpy as np
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.modeling import FPN
from detectron2.structures import ImageList

from glipv2_d2.modeling.contrast import RegionWordContrast
from glipv2_d2.modeling.generation import Decoding
from glipv2_d2.modeling.heads import CaptionHead, VqaHead
from tests.support.tiny import tiny_config, tiny_masks_config

INFERENCE = {"min_size": 96, "max_size": 160, "score_threshold": 0.1}
NAMES = ["cat", "red kite", "traffic light"]
# images, height, width, tokens: fewer and more than traced; one token; an odd number of windows;
# less than one window, and one position on P5.
SIZES = [(2, 64, 96, 5), (1, 224, 160, 17), (3, 32, 32, 1), (1, 32, 352, 2), (3, 416, 480, 40)]

# No multiples of the stride: more and less than one, one side or both, one pixel.
ODD_SIZES = [(1, 200, 300, 4), (2, 33, 95, 3), (1, 31, 64, 2), (1, 64, 97, 2), (1, 1, 1, 1)]


def _made_small(config):
    """One fused block, whose words read positions, and three levels, the least that have one with
    neighbors on both sides: what is traced in half the time."""
    config.neck.num_blocks = 1
    config.neck.positions = True
    pyramid = config.backbone
    config.backbone = L(FPN)(
        bottom_up=pyramid.bottom_up,
        in_features=list(pyramid.in_features),
        out_channels=pyramid.out_channels,
    )
    config.head.num_levels = 3
    for key in ("sizes", "strides"):
        config.anchor_generator[key] = config.anchor_generator[key][:3]
    return config


def small_config():
    """Of the `small_model`."""
    config = _made_small(tiny_config())
    config.neck.offset_rule = "raw_memory"
    return config


def small_model():
    """An untrained model that is sure of something."""
    torch.manual_seed(0)
    model = instantiate(small_config()).eval()
    with torch.no_grad():
        model.head.bias0.fill_(0.0)
    return model


def telling_model():
    """The same with the contrast, masks, answers, and captions that differ between images and end
    somewhere."""
    config = _made_small(tiny_masks_config())
    config.vqa_head = L(VqaHead)(text_channels=32, answers=["yes", "no", "red"], ground_answer=True)
    config.caption_head = L(CaptionHead)(
        text_channels=32, vocabulary_size=30522, decoding=L(Decoding)(beam_size=2, max_length=5)
    )
    config.contrast = L(RegionWordContrast)(channels=32, text_channels=32, embed_channels=8)
    torch.manual_seed(0)
    model = instantiate(config).eval()
    with torch.no_grad():
        model.head.bias0.fill_(0.0)
        model.neck.blocks[0].fusion.gamma_l.fill_(3.0)
        words = model.language_backbone.word_embedding
        words.copy_(torch.randn(words.shape, generator=torch.Generator().manual_seed(1)))
        model.caption_head.bias[model.tokenizer.encode("").ids[-1]] = 2.0
    model.tokenizer.mask_token_id = 5  # not the tokenizer's own, as of GLIPv2-B and -H
    return model


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def inputs(batch, height, width, tokens, channels=32):
    """Of the image path: images, words and their padding mask."""
    generator = torch.Generator().manual_seed(height * width + tokens)
    mask = torch.ones(batch, tokens, dtype=torch.bool)
    mask[1:, max(1, tokens // 2) :] = False  # a prompt has at least one token
    images = torch.randn(batch, 3, height, width, generator=generator)
    return images, torch.randn(batch, tokens, channels, generator=generator), mask


def mask_inputs(boxes):
    """Of the mask path: words of two images, boxes of different levels, their rows and tokens, and
    levels of an image of 128 x 192 pixels."""
    generator = torch.Generator().manual_seed(boxes)
    sides = torch.tensor([500.0, 20.0, 130.0, 60.0, 300.0])[:boxes]
    corners = torch.rand(boxes, 2, generator=generator) * 40
    regions = torch.cat((corners, corners + sides[:, None]), dim=1)
    tokens = torch.arange(6) < torch.tensor([[6], [1], [3], [2], [4]])[:boxes]
    levels = [torch.randn(2, 32, 16 >> i, 24 >> i, generator=generator) for i in range(3)]
    words = torch.randn(2, 6, 32, generator=generator)
    return words, regions, torch.arange(boxes) % 2, tokens, *levels


def padded(images, words, mask):
    """What GLIP itself makes of the images."""
    return ImageList.from_tensors(list(images), 32).tensor, words, mask


def assert_same_detections(found, expected):
    assert len(expected)
    assert list(found.pred_phrases) == list(expected.pred_phrases)
    assert found.image_size == expected.image_size
    torch.testing.assert_close(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-4)
    boxes, expected_boxes = found.pred_boxes.tensor, expected.pred_boxes.tensor
    torch.testing.assert_close(boxes, expected_boxes, atol=1e-3, rtol=1e-4)
