"""A model that is ready for use: of weights, or of an export in their place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from ..checkpoint import build_for_weights, is_export, load_weights
from ..errors import ConfigError
from ..export import ExportedGLIP
from ..export.manifest import Manifest

__all__ = ["load_model", "refuse_model_settings", "settings_of_export"]


def load_model(model: DictConfig, weights: str | Path, device: str = "cpu") -> nn.Module:
    """A model with its weights, for inference.

    Args:
        model: the config's `model` node; an export, which is a whole model, does without.
        weights: a file, or the folder of an export. device: where the model goes.

    Raises:
        CheckpointError, ConfigError, ExportError: see `build_for_weights`, `load_weights` and
            `ExportedGLIP`.
    """
    if is_export(weights):
        return ExportedGLIP(weights, device)
    built = build_for_weights(model, weights)
    load_weights(built, weights)
    return built.to(device)


def settings_of_export(weights: str | Path) -> dict[str, Any]:
    """The `inference` settings that an export was made with; of weights there are none.

    Raises:
        ExportError: its `export.json` cannot be read.
    """
    return Manifest.read(Path(weights)).inference if is_export(weights) else {}


def refuse_model_settings(weights: str | Path, overrides: Sequence[str]) -> None:
    """Settings of an export's model would have no effect: its layers are in the graphs.

    Raises:
        ConfigError: one of the overrides is of `model`.
    """
    found = [x for x in overrides if x.lstrip("+~").startswith(("model.", "model="))]
    if found and is_export(weights):
        raise ConfigError(
            f"'{weights}' is an export, whose model stays as it was exported: {found[0]} has no "
            "effect; leave it out, or export again with it"
        )
