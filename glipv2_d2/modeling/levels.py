"""Whether a backbone's levels are those that anchors and head are made for."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.modeling import Backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from ..errors import ConfigError
from .heads import GroundingHead

__all__ = ["level_strides", "require_fitting_features", "require_fitting_levels"]


def level_strides(backbone: Backbone, name: str) -> dict[str, int]:
    """The strides of a backbone's levels, by name, fine to coarse.

    Args:
        backbone: a Detectron2 backbone. name: of its setting, for the message.

    Raises:
        ConfigError: it is none: it does not say which levels it has.
    """
    if not hasattr(backbone, "output_shape"):
        info = getattr(backbone, "feature_info", None)  # timm, features_only=True
        levels = f"; its levels have the strides {_listed(info.reduction())}" if info else ""
        raise ConfigError(
            f"{name} is a {type(backbone).__name__}, no Backbone of Detectron2, which names its "
            f"levels and their strides (output_shape){levels}: wrap it in one"
        )
    return {level: shape.stride for level, shape in backbone.output_shape().items()}


def require_fitting_levels(
    backbone: Backbone, anchor_generator: DefaultAnchorGenerator, head: GroundingHead
) -> None:
    """One anchor for each position of each level, and a box scale for each level.

    Raises:
        ConfigError: they do not fit; it names both lists.
    """
    levels = level_strides(backbone, "model.backbone")
    anchors = list(anchor_generator.strides)
    if list(levels.values()) != anchors:
        shown = ", ".join(f"{level} of stride {stride}" for level, stride in levels.items())
        raise ConfigError(
            f"the levels of model.backbone ({shown}) are not those of the anchors (strides "
            f"{_listed(anchors)}): set model.anchor_generator.strides, and sizes to one list for "
            "each of them, or the features of the backbone"
        )
    several = [count for count in anchor_generator.num_anchors if count != 1]
    if several:
        raise ConfigError(
            f"GLIP takes one anchor for each position, and model.anchor_generator gives "
            f"{_listed(anchor_generator.num_anchors)}, by level: one size and one aspect ratio each"
        )
    if head.num_levels != len(anchors):
        raise ConfigError(
            f"model.head.num_levels is {head.num_levels}, and the levels have the strides "
            f"{_listed(anchors)}: set it to {len(anchors)}"
        )


def require_fitting_features(
    features: Mapping[str, torch.Tensor], image_size: Sequence[int], strides: Sequence[int]
) -> None:
    """What another model's backbone hands over is as fine as the anchors are.

    Args:
        features: levels (B, C, h, w). image_size: (height, width) of the batch.
        strides: of the anchors.

    Raises:
        ConfigError: it is not; it names both lists.
    """
    sizes = [tuple(level.shape[-2:]) for level in features.values()]
    wanted = [tuple(-(-side // stride) for side in image_size) for stride in strides]
    if sizes != wanted:
        shown = ", ".join(f"{name} {h}x{w}" for name, (h, w) in zip(features, sizes))
        raise ConfigError(
            f"the features of an image of {image_size[0]}x{image_size[1]} ({shown}) are not those "
            f"of the anchors (strides {_listed(strides)}): the backbone must be the GLIP's own"
        )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
