"""A model that is ready for use: of weights, or of an export in their place."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..checkpoint import build_for_weights, is_export, load_weights
from ..errors import ConfigError
from ..export import ExportedGLIP
from ..export.manifest import OF_MODEL, OF_POSTPROCESSOR, Manifest

__all__ = [
    "load_model",
    "require_precision",
    "require_settings_of_export",
    "with_settings_of_export",
]


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


def with_settings_of_export(
    config: DictConfig, weights: str | Path, overrides: Sequence[str]
) -> DictConfig:
    """A config whose `inference` is that of an export, but for overrides; of weights: as it is.

    Args:
        config: with the overrides applied; changed in place.

    Raises:
        ExportError: the `export.json` cannot be read.
        ConfigError: an override is of `model`, which stays as it was exported.
    """
    if not is_export(weights):
        return config
    given = [override.lstrip("+~").partition("=")[0].strip() for override in overrides]
    if changed := [key for key in given if key.split(".")[0] == "model"]:
        raise ConfigError(
            f"'{weights}' is an export, whose model stays as it was exported: {changed[0]} has no "
            "effect; leave it out, or export again with it"
        )
    for key, value in Manifest.read(Path(weights)).inference.items():
        if not {"inference", f"inference.{key}"} & {*given}:
            OmegaConf.update(config, f"inference.{key}", value, force_add=True)
    return config


def require_settings_of_export(model: DictConfig, weights: str | Path) -> None:
    """An evaluation by a config that says otherwise than the export would be of neither.

    Args:
        model: the config's node, from which the loaders have the order of colors and the chunks.

    Raises:
        ConfigError: the config asks for another value of what the export was made with.
    """
    if not is_export(weights):
        return
    manifest = Manifest.read(Path(weights))
    compared = {name: name for name in OF_MODEL if name != "prompt_batch_size"}
    compared |= {f"postprocessor.{name}": name for name in OF_POSTPROCESSOR}
    for key, name in compared.items():
        exported = getattr(manifest, name)
        asked = OmegaConf.select(model, key, default=exported)
        if asked != exported:
            raise ConfigError(
                f"the export '{weights}' was made with model.{key}={exported}, and the config, "
                f"with what it is evaluated by, says {asked}: export again with "
                f"model.{key}={asked}, or give the config that it was made with"
            )


def require_precision(model: nn.Module, precision: str) -> None:
    """An export runs in what its graphs have.

    Raises:
        ConfigError: they do not have it.
    """
    if not isinstance(model, ExportedGLIP) or model.manifest.format == "torch":
        return
    known = {"onnx": ["fp32"], "openvino": ["fp32", "bf16"]}[model.manifest.format]
    if precision not in known:
        raise ConfigError(
            f"inference.precision={precision}: an export for {model.manifest.format} runs in "
            f"{' or '.join(known)}"
        )
