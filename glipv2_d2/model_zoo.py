"""The published GLIP models by name: config, weights, and a predictor that is ready to use.

    from glipv2_d2 import model_zoo

    predictor = model_zoo.get("glip_t")          # from disk, the hub's cache, or the hub
    instances = predictor("photo.jpg", ["cat", "remote control"])[0]

The weights are the official files as they are (docs/model_zoo.md lists them with their published
numbers); they are converted while they load.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from .config import get_config as load_config
from .errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from .engine import GroundingPredictor

__all__ = [
    "FOLDER_VARIABLE",
    "HUB",
    "PublishedModel",
    "config_name",
    "find_weights",
    "get",
    "get_config",
    "local_weights",
    "names",
]

HUB = "GLIPModel/GLIP"
# Names a folder with weights that were fetched by hand, or a list of folders.
FOLDER_VARIABLE = "GLIP_WEIGHTS"


@dataclass(frozen=True)
class PublishedModel:
    """A released model.

    Attributes:
        config: name of the shipped config.
        file: name of the official weights in the hub repository `HUB`.
    """

    config: str
    file: str

    @property
    def url(self) -> str:
        """Where a browser finds the file."""
        return f"https://huggingface.co/{HUB}/resolve/main/{self.file}"


_MODELS = {
    "glip_t_a": PublishedModel("pretrain/glip_t_a.py", "glip_a_tiny_o365.pth"),
    "glip_t_b": PublishedModel("pretrain/glip_t_b.py", "glip_tiny_model_o365.pth"),
    "glip_t_c": PublishedModel("pretrain/glip_t_c.py", "glip_tiny_model_o365_goldg.pth"),
    "glip_t": PublishedModel("pretrain/glip_t.py", "glip_tiny_model_o365_goldg_cc_sbu.pth"),
    "glip_t_lvis_best": PublishedModel(
        "pretrain/glip_t.py", "glip_tiny_model_o365_goldg_cc_sbu_lvisbest.pth"
    ),
    "glip_l": PublishedModel("pretrain/glip_l.py", "glip_large_model.pth"),
}


def names() -> list[str]:
    """The names that `get` knows."""
    return list(_MODELS)


def config_name(name: str) -> str:
    """The name of a published model's config, as `resolve_config` takes it.

    Raises:
        ConfigError: no such model; it lists the names.
    """
    return _published(name).config


def get_config(name: str) -> DictConfig:
    """The whole LazyConfig of a published model.

    Raises:
        ConfigError: no such model; it lists the names.
    """
    return load_config(config_name(name))


def get(name: str, weights: str | Path | None = None, **options) -> "GroundingPredictor":
    """A published model with its weights, ready to use.

    Args:
        name: one of `names`.
        weights: see `find_weights`.
        options: of `GroundingPredictor.from_config` (`device`, `batch_size`, ...).

    Returns:
        A GroundingPredictor; its `model` is the `GLIP`, in evaluation mode.

    Raises:
        ConfigError: no such model. CheckpointError: its weights are not here and cannot be fetched.
    """
    from .engine import GroundingPredictor  # the engine imports much that a name needs not

    published = _published(name)
    return GroundingPredictor.from_config(published.config, find_weights(name, weights), **options)


def find_weights(name: str, weights: str | Path | None = None) -> Path:
    """The weights file of a published model on this machine, fetched if need be.

    Sought are, in this order: `weights`; the folders that the environment variable GLIP_WEIGHTS
    names, for the official file or `<name>.safetensors` or `<name>.pth` (as
    `glip convert` writes them); the cache of the Hugging Face hub; the hub.

    Args:
        name: one of `names`.
        weights: a file, or a folder that holds it; None: see above.

    Raises:
        ConfigError: no such model. CheckpointError: the weights are nowhere.
    """
    published = _published(name)
    if weights is None:
        return local_weights(name) or _from_hub(name, published)
    path = Path(weights).expanduser()
    found = _first_file([path], name) if path.is_dir() else path
    if found is None or not found.is_file():
        sought = f" (looked for {', '.join(_files(name))})" if path.is_dir() else ""
        raise CheckpointError(
            f"there are no weights of '{name}' at '{path}'{sought}; "
            f"the official file is {published.url}"
        )
    return found


def local_weights(name: str) -> Path | None:
    """The weights file of a published model in the folders of GLIP_WEIGHTS or the hub's cache.

    Raises:
        ConfigError: no such model.
    """
    from huggingface_hub import try_to_load_from_cache

    folders = os.environ.get(FOLDER_VARIABLE, "").split(os.pathsep)
    if found := _first_file([Path(f).expanduser() for f in folders if f], name):
        return found
    cached = try_to_load_from_cache(HUB, _published(name).file)
    return Path(cached) if isinstance(cached, str) else None


def _published(name: str) -> PublishedModel:
    if name not in _MODELS:
        raise ConfigError(f"there is no published model '{name}'; there are {', '.join(_MODELS)}")
    return _MODELS[name]


def _files(name: str) -> tuple[str, ...]:
    return _published(name).file, f"{name}.safetensors", f"{name}.pth"


def _first_file(folders: list[Path], name: str) -> Path | None:
    candidates = (folder / file for folder in folders for file in _files(name))
    return next((path for path in candidates if path.is_file()), None)


def _from_hub(name: str, published: PublishedModel) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB, published.file))
    except (OSError, ValueError) as error:  # the client's errors: no network, no file, disk full
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        folders = os.environ.get(FOLDER_VARIABLE) or "not set"
        raise CheckpointError(
            f"the weights of '{name}' are not on this machine and cannot be fetched: "
            f"{published.file} is neither in the folders of {FOLDER_VARIABLE} "
            f"({folders}) nor in the cache of the Hugging Face hub, and fetching it "
            f"from {HUB} failed ({reason}); either fetch {published.url} where there is a network "
            f"and give its path (weights=..., --weights) or put it into a folder that "
            f"{FOLDER_VARIABLE} names; or repeat this with a network"
        ) from error
