"""Small models of CLIP's kind for tests, with CLIP's own vocabulary."""

import torch

from glipv2_d2.modeling.text import ClipLanguageBackbone

DIMENSIONS = {"width": 16, "num_heads": 2, "num_layers": 2, "max_tokens": 24}


def tiny_clip(seed: int = 0, **options) -> ClipLanguageBackbone:
    """Two layers, 16 wide, random weights of a size that lets each of them matter."""
    torch.manual_seed(seed)
    model = ClipLanguageBackbone(**{**DIMENSIONS, "pretrained": False, **options})
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    return model
