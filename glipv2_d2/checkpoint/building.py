"""Build a model for given weights: what the weights file holds is not fetched from elsewhere."""

import copy
import logging
from pathlib import Path

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..config import named_setting
from ..modeling.weights import WEIGHTS_REGISTRY
from .formats import find_format
from .frozen_vocabulary import with_frozen_vocabulary
from .reading import weight_names
from .safetensors_path import plain_path

__all__ = ["build_for_weights", "config_for_weights", "random_parts"]

logger = logging.getLogger(__name__)

# Key of the config that asks for weights of its own, and what it is set to when a file brings them.
_OWN_WEIGHTS = {
    "language_backbone.pretrained": False,
    "backbone.bottom_up.pretrained": None,
    "backbone.pretrained": None,  # of a tower without a pyramid
    "visual.pretrained": None,  # of CLOC
}


def build_for_weights(model: DictConfig, weights: str | Path) -> nn.Module:
    """Instantiate a LazyConfig's `model` into which a weights file will be loaded.

    The one place for it: predictor, command lines, training and the yacs door use it, so that an
    official GLIP runs without the hub that BERT's weights come from. The weights are not loaded
    yet.

    Args:
        model: the `model` node. weights: the file; empty or a URL: the node is built as it is.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: a part of the model refuses a setting.
    """
    node = config_for_weights(model, weights)
    with named_setting("model"):
        return instantiate(node)


@WEIGHTS_REGISTRY.register()
def config_for_weights(model: DictConfig, weights: str | Path) -> DictConfig:
    """A `model` node that asks for no pretrained part which the weights file brings, and is of a
    fixed vocabulary if the file is (`freeze_vocabulary`).

    Args, errors: see `build_for_weights`. The node itself is left as it is.
    """
    weights = plain_path(weights)
    if not weights or "://" in weights:
        return model
    model = with_frozen_vocabulary(model, weights)
    brought = _brought([key for key in _OWN_WEIGHTS if OmegaConf.select(model, key)], weights)
    if not brought:
        return model
    model = copy.deepcopy(model)
    for key in brought:
        OmegaConf.update(model, key, _OWN_WEIGHTS[key])
        logger.info("%s holds these weights itself: model.%s is not asked for", weights, key)
    return model


def random_parts(model: DictConfig, weights: str | Path) -> list[str]:
    """The encoders that would be trained from random weights without anybody having said so.

    Args:
        model: the `model` node. `pretrained` None of an encoder: no weights of its own; False:
            random ones are meant.
        weights: the file that training starts from; empty: none.

    Returns:
        Their keys, `"backbone.bottom_up.pretrained"`, for instance. None where the weights come
        from a URL, into which nobody looks before.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    unsaid = [key for key in _OWN_WEIGHTS if OmegaConf.select(model, key, default=False) is None]
    weights = plain_path(weights)
    if "://" in weights:
        return []
    brought = _brought(unsaid, weights) if weights else []
    return [key for key in unsaid if key not in brought]


def _brought(keys: list[str], weights: str | Path) -> list[str]:
    """Those of `_OWN_WEIGHTS` whose weights the file has."""
    if not keys:
        return []
    names = weight_names(weights)
    found = find_format(names)

    def begins(key: str) -> tuple[str, ...]:
        part = key.removesuffix(".pretrained")
        return (f"{part}.",) if found is None else found.parts.get(part, ())

    return [key for key in keys if any(name.startswith(begins(key)) for name in names)]
