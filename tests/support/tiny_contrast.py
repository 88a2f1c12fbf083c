"""A LazyConfig with the tiny GLIPv2, whose contrast embeds regions."""

import torch
from detectron2.config import instantiate

from tests.support.tiny import lively, tiny_glipv2_config


def tiny_contrast_model():
    """It finds something."""
    torch.manual_seed(0)
    return lively(instantiate(tiny_glipv2_config())).eval()


model = tiny_glipv2_config()
inference = {"min_size": 64, "max_size": 128, "score_threshold": 0.3}
