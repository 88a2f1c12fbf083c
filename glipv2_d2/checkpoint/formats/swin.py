"""A Swin's weights under SwinBackbone's names, from its authors' files or timm's."""

import re
from collections.abc import Collection

import torch
from torch import nn

from .registry import WEIGHT_FORMATS, WeightFormat, Weights

__all__ = ["ImageNetSwin"]

_BLOCK = re.compile(r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_bias_table")


@WEIGHT_FORMATS.register()
class ImageNetSwin(WeightFormat):
    """A Swin that was trained to classify, of its authors or of timm."""

    title = "Swin"
    left_out = (
        (r"head\..*", "the classifier"),
        (r"norm\..*", "of the pooled image; detection has a norm for each level"),
        (r".*\.(relative_position_index|attn_mask)", "computed from the window size"),
    )

    def recognizes(self, names: Collection[str]) -> bool:
        return any(_BLOCK.fullmatch(name) for name in names)

    def convert(self, state: Weights, module: nn.Module) -> dict[str, torch.Tensor]:
        """The weights of the layers.

        The authors put the patch merging at the end of a stage ("layers.0.downsample"), timm at the
        beginning of the next ("layers.1.downsample"); the tensors are the same.
        """
        shift = 0 if any(name.startswith("layers.0.downsample.") for name in state) else 1
        converted = {}
        for name, value in state.items():
            if self.explain_left_out(name) is not None:
                continue
            match = re.match(r"layers\.(\d+)\.(.*)", name)
            if match:
                stage, rest = int(match.group(1)), match.group(2)
                name = f"stages.{stage - shift if rest.startswith('downsample') else stage}.{rest}"
            converted[name] = value
        return converted
