"""ImageNet weights for SwinBackbone, in the names of the Swin authors or of timm."""

import re
from pathlib import Path

import timm
import torch
from torch import nn

from ...checkpoint import CheckpointError, read_checkpoint

__all__ = ["convert_imagenet_swin", "load_imagenet_swin"]

# Of the classifier, or recomputed.
_NOT_NEEDED = re.compile(r"^(head\.|norm\.)|relative_position_index$|attn_mask$")


def convert_imagenet_swin(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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


def load_imagenet_swin(backbone: nn.Module, source: str) -> None:
    """Fill a SwinBackbone, all but its output norms, which ImageNet does not train.

    Args:
        source: a checkpoint file (the authors' .pth with "model"), or the name of a timm model.

    Raises:
        CheckpointError: no such file or model, or weights of another size of Swin.
    """
    if Path(source).is_file():
        state = read_checkpoint(source)["model"]
    elif timm.is_model(source):
        state = timm.create_model(source, pretrained=True).state_dict()
    else:
        raise CheckpointError(
            f"The pretrained weights of the Swin, '{source}', are neither a file nor a timm model."
        )
    state = convert_imagenet_swin(state)
    own = backbone.state_dict()
    wanted = {name for name in own if not name.startswith("out_norms.")}
    differing = wanted.symmetric_difference(state)
    differing |= {n for n in wanted & set(state) if state[n].shape != own[n].shape}
    if differing:
        raise CheckpointError(
            f"'{source}' holds another Swin: {len(differing)} of {len(wanted)} weights differ in "
            f"name or shape, for example {', '.join(sorted(differing)[:3])}"
        )
    backbone.load_state_dict(state, strict=False)
