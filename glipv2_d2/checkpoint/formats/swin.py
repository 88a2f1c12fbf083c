"""A Swin's weights under SwinBackbone's names, from its authors' or timm's: a pure function."""

import re
from collections.abc import Mapping

import torch

__all__ = ["convert_imagenet_swin"]

# Of the classifier, or recomputed.
_NOT_NEEDED = re.compile(r"^(head\.|norm\.)|relative_position_index$|attn_mask$")


def convert_imagenet_swin(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of an ImageNet Swin to SwinBackbone's.

    The authors put the patch merging at the end of a stage ("layers.0.downsample"), timm at the
    beginning of the next ("layers.1.downsample"); the tensors are the same.
    """
    shift = 0 if "layers.0.downsample.norm.weight" in state else 1
    converted = {}
    for name, value in state.items():
        if _NOT_NEEDED.search(name):
            continue
        match = re.match(r"layers\.(\d+)\.(.*)", name)
        if match:
            stage, rest = int(match.group(1)), match.group(2)
            name = f"stages.{stage - shift if rest.startswith('downsample') else stage}.{rest}"
        converted[name] = value
    return converted
