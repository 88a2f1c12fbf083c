"""Models by name, published and shipped: config, weights, and a predictor that is ready to use.

    from glipv2_d2 import model_zoo

    predictor = model_zoo.get("glip_t")          # from disk, the hub's cache, or the hub
    instances = predictor("photo.jpg", ["cat", "remote control"])[0]

The weights of the published GLIP are the official files as they are (docs/model_zoo.md lists them
with their published numbers); they are converted while they load. Those of the demo's models come
with this package.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig

from .checkpoint import is_export, read_safetensors_metadata
from .checkpoint.file_kinds import checked_suffix
from .config import get_config as load_config
from .config import shipped_folders
from .errors import CheckpointError, ConfigError, UsageError, did_you_mean

if TYPE_CHECKING:
    from .engine import GroundingPredictor

__all__ = [
    "FOLDER_VARIABLE",
    "HUB",
    "ModelFiles",
    "PublishedModel",
    "config_name",
    "find_model",
    "find_weights",
    "get",
    "get_config",
    "local_weights",
    "names",
    "weights_file",
]

HUB = "GLIPModel/GLIP"
_HUB_PAGE = f"https://huggingface.co/{HUB}/resolve/main"
# Names a folder with weights that were fetched by hand, or a list of folders.
FOLDER_VARIABLE = "GLIP_WEIGHTS"


@dataclass(frozen=True)
class PublishedModel:
    """A released model.

    Attributes:
        config: name of the shipped config.
        file: name of the official weights in the hub repository `HUB`, or of the shipped ones.
        shipped: the weights come with this package.
    """

    config: str
    file: str
    shipped: bool = False

    @property
    def url(self) -> str:
        """Where a browser finds the file, or where it lies in a clone."""
        return f"weights/{self.file}" if self.shipped else f"{_HUB_PAGE}/{self.file}"


class ModelFiles(NamedTuple):
    """Config and weights of a model.

    Attributes:
        config: as `resolve_config` takes it.
        weights: path of the file.
    """

    config: str
    weights: str


_MODELS = {
    "glip_t_a": PublishedModel("pretrain/glip_t_a.py", "glip_a_tiny_o365.pth"),
    "glip_t_b": PublishedModel("pretrain/glip_t_b.py", "glip_tiny_model_o365.pth"),
    "glip_t_c": PublishedModel("pretrain/glip_t_c.py", "glip_tiny_model_o365_goldg.pth"),
    "glip_t": PublishedModel("pretrain/glip_t.py", "glip_tiny_model_o365_goldg_cc_sbu.pth"),
    "glip_t_lvis_best": PublishedModel(
        "pretrain/glip_t.py", "glip_tiny_model_o365_goldg_cc_sbu_lvisbest.pth"
    ),
    "glip_l": PublishedModel("pretrain/glip_l.py", "glip_large_model.pth"),
    "glip_scenes": PublishedModel("demo/scenes.py", "glip_scenes.safetensors", shipped=True),
    "glipv2_scenes": PublishedModel(
        "demo/scenes_glipv2_mask.py", "glipv2_scenes.safetensors", shipped=True
    ),
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


def find_model(
    model: str = "", config: str = "", weights: str = "", *, exports: bool = False
) -> ModelFiles:
    """The files that the options `--model`, `--config-file` and `--weights` of a command mean.

    Args:
        model: one of `names`; says all.
        config: a file, or the name of a shipped config; empty: what `weights` says.
        weights: a file, or one of `names`; an address ("detectron2://...") is handed on.
        exports: `weights` may be the folder of an export, too.

    Raises:
        UsageError: options that contradict or do not say a model, or a file that is not there.
        ConfigError: no such model. CheckpointError: its weights are not here and cannot be fetched.
            Also where the weights are an export that cannot be used. ExportError: it is damaged.
    """
    if model:
        if config or weights:
            other = "--config-file" if config else "--weights"
            raise UsageError(
                f"--model {model} says config and weights, and {other} says another: give one"
            )
        return ModelFiles(config_name(model), weights_file(model))
    if not weights:
        raise UsageError(
            "no weights are given: --model NAME, or --weights FILE and, where the file does not "
            f"say its config, --config-file FILE; the names are: {', '.join(names())}"
        )
    path = weights_file(weights)
    if is_export(path) and not exports:
        checked_suffix(Path(path))  # says so
    if "://" not in path and not Path(path).is_file() and not is_export(path):
        raise UsageError(
            f"there is no file '{weights}', and no published model has that name"
            f"{did_you_mean(weights, names())}; there are: {', '.join(names())}"
        )
    if not config and weights in _MODELS:
        config = config_name(weights)
    if not config and Path(path).suffix == ".safetensors":
        config = read_safetensors_metadata(path).get("config", "")
    if not config and is_export(path):
        from .export.manifest import Manifest  # see `get`

        config = Manifest.read(Path(path)).notes.get("config", "")
    if not config:
        raise UsageError(
            f"'{weights}' does not say of which model it is: give --config-file, for instance "
            "pretrain/glip_t.py"
        )
    return ModelFiles(config, path)


def weights_file(given: str | Path) -> str:
    """The path of weights that are given as a file or as one of `names`.

    Raises:
        CheckpointError: the weights of the model are not here and cannot be fetched.
    """
    return str(find_weights(str(given)) if str(given) in _MODELS else given)


def find_weights(name: str, weights: str | Path | None = None) -> Path:
    """The weights file of a published model on this machine, fetched if need be.

    Sought are, in this order: `weights`; the folders that the environment variable GLIP_WEIGHTS
    names, for the official file or `<name>.safetensors` or `<name>.pth` (as
    `glip convert` writes them); what this package comes with; the cache of the Hugging Face hub;
    the hub.

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
    """The weights file of a published model in the folders of GLIP_WEIGHTS, among those that come
    with this package, or in the hub's cache.

    Raises:
        ConfigError: no such model.
    """
    from huggingface_hub import try_to_load_from_cache

    given = os.environ.get(FOLDER_VARIABLE, "").split(os.pathsep)
    folders = [*(Path(f).expanduser() for f in given if f), *shipped_folders("weights")]
    if found := _first_file(folders, name):
        return found
    cached = try_to_load_from_cache(HUB, _published(name).file)
    return Path(cached) if isinstance(cached, str) else None


def _published(name: str) -> PublishedModel:
    if name not in _MODELS:
        raise ConfigError(
            f"there is no published model '{name}'{did_you_mean(name, _MODELS)}; there are "
            f"{', '.join(_MODELS)}"
        )
    return _MODELS[name]


def _files(name: str) -> tuple[str, ...]:
    return _published(name).file, f"{name}.safetensors", f"{name}.pth"


def _first_file(folders: list[Path], name: str) -> Path | None:
    candidates = (folder / file for folder in folders for file in _files(name))
    return next((path for path in candidates if path.is_file()), None)


def _from_hub(name: str, published: PublishedModel) -> Path:
    if published.shipped:
        raise CheckpointError(
            f"the weights of '{name}' come with this package, but are not in this installation: "
            f"give {published.url} of a clone (--weights), or name its folder in {FOLDER_VARIABLE}"
        )
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
