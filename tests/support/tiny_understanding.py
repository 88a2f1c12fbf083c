"""A LazyConfig with a tiny model that detects, segments, answers and writes."""

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from glipv2_d2.modeling.generation import Decoding
from glipv2_d2.modeling.heads import CaptionHead, VqaHead
from tests.support.tiny import lively, tiny_masks_config

ANSWERS = ["yes", "no", "red", "2", "star", ""]


def tiny_understanding_config():
    """The tiny GLIP with a mask head, a VQA head and a caption head; captions are short."""
    model = tiny_masks_config()
    model.vqa_head = L(VqaHead)(text_channels=32, answers=ANSWERS, ground_answer=True)
    model.caption_head = L(CaptionHead)(
        text_channels=32,
        vocabulary_size=30522,
        decoding=L(Decoding)(beam_size=1, max_length=6),
    )
    return model


def tiny_understanding_model():
    """It finds something, and what it answers and writes differs between images."""
    torch.manual_seed(0)
    return lively(instantiate(tiny_understanding_config())).eval()


model = tiny_understanding_config()
inference = {"min_size": 64, "max_size": 96, "score_threshold": 0.2}
