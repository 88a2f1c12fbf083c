"""The door for yacs users, and the one place that finds a config file by its name.

A Detectron2 project that is configured by `CfgNode` gets this project's models with::

    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GLIP"
    cfg.MODEL.GLIP.CONFIG = "pretrain/glip_t.py"
    model = build_model(cfg)          # or DefaultPredictor(cfg)

Everything else about the model lives in the LazyConfig that the key names, so that there is one
description of a model and not two; `modeling/yacs.py` says which of Detectron2's own keys count.
"""

import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from detectron2.config import CfgNode, LazyConfig
from detectron2.config import __file__ as CONFIG_PACKAGE
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf, ValueNode

from .errors import ConfigError, UsageError, did_you_mean

__all__ = [
    "ConfigError",
    "add_glip_config",
    "apply_overrides",
    "get_config",
    "load_model_config",
    "named_setting",
    "resolve_config",
    "shipped_folders",
    "target_of",
]


@contextmanager
def named_setting(key: str) -> Iterator[None]:
    """Where a part of a config is built: what a constructor refuses names the part.

    Whoever writes a constructor raises what Python's users expect; whoever runs a config wants
    one line that says where the setting is, and no traceback.

    Args:
        key: of the part, for instance `"optimizer"`.

    Raises:
        ConfigError: in place of a plain `ValueError` or a `UsageError`; other kinds of `ValueError`
            (`DataError`, ...) pass. Also in place of the `TypeError` of a keyword that the
            constructor does not have.
    """
    try:
        yield
    except ValueError as error:
        if type(error) not in (ValueError, UsageError):
            raise
        raise ConfigError(f"{key}: {error}") from error
    except TypeError as error:
        _, *frames = [frame for frame, _ in walk_tb(error.__traceback__)]
        caller = Path(frames[-1].f_code.co_filename)
        # Raised by the call itself, in the context or in Detectron2's `instantiate`: inside of the
        # constructor it would be a bug of ours.
        if len(frames) > 1 and caller.parent != Path(CONFIG_PACKAGE).parent:
            raise
        raise ConfigError(f"{key}: {error}") from error


def add_glip_config(cfg: CfgNode) -> None:
    """Add the key `MODEL.GLIP.CONFIG` to a yacs config, in place.

    Call it before merging a yaml file or options that name the key, and before
    `cfg.MODEL.GLIP` is touched. The value is what `resolve_config` takes.
    """
    cfg.MODEL.GLIP = CfgNode()
    cfg.MODEL.GLIP.CONFIG = ""


def resolve_config(name: str | Path) -> str:
    """Find a LazyConfig file.

    Args:
        name: an absolute path, a path relative to the working directory, or the name of a shipped
            config relative to `configs/` (`"pretrain/glip_t.py"`; `.py` and a leading
            `configs/` may be left out or given).

    Returns:
        The absolute path of the file.

    Raises:
        ConfigError: when there is no such file; it lists the shipped ones.
    """
    text = str(name)
    if not text:
        raise ConfigError(
            "no config is named: give --config-file or --model; with yacs set "
            f"cfg.MODEL.GLIP.CONFIG, for example to 'pretrain/glip_t.py'. {_shipped_hint()}"
        )
    wanted = [text] if Path(text).suffix in (".py", ".yaml", ".yml") else [text + ".py", text]
    for candidate in wanted:
        path = Path(candidate).expanduser()
        if path.is_file():
            return str(path.resolve())
        if path.is_absolute():
            continue
        for root in shipped_folders("configs"):
            for relative in (path, _without_configs_prefix(path)):
                if (root / relative).is_file():
                    return str((root / relative).resolve())
    hint = did_you_mean(text, _shipped())
    raise ConfigError(
        f"there is no config file '{name}'{hint}: not as a path from {Path.cwd()}, and not among "
        f"the configs that come with glipv2_d2. {_shipped_hint()}"
    )


def get_config(name: str | Path) -> DictConfig:
    """Load a whole LazyConfig (`model`, `dataloader`, `train`, ...) by name.

    Args and errors: see `resolve_config`; also `ConfigError` when the file registers
    data in a way that cannot be repeated, and has been loaded before.
    """
    path = resolve_config(name)
    try:
        config = LazyConfig.load(path)
    except AssertionError as error:  # Detectron2's DatasetCatalog
        if "already registered" not in str(error):
            raise
        raise ConfigError(
            f"the config '{path}' registers data, which fails when it is loaded a second time "
            f"({str(error).rstrip('!.')}): use glipv2_d2.data.register_coco_dataset or "
            "register_grounding_dataset, which may be repeated, or register only names that are "
            "not in DatasetCatalog.list()"
        ) from error
    _move_renamed_keys(config)
    return config


def apply_overrides(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A config with `path.key=value` of a command line applied.

    Keys that it does not have are set, with a warning, but for keywords that the target of an
    `L(...)` node takes: of a misspelled one nobody would be told.

    Raises:
        ConfigError: an override cannot be read, or gives a text where the config has a number.
    """
    keys = [override.partition("=")[0].strip() for override in overrides]
    try:
        before = {key: _raw(config, key) for key in keys}
        unknown = [_told(config, key) for key in keys if not _is_known(config, key)]
        config = LazyConfig.apply_overrides(config, list(overrides))
    except Exception as error:  # of Hydra's parser, OmegaConf and Detectron2, with no common base
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"the overrides {' '.join(overrides)} cannot be applied ({reason}): they have the form "
            "path.key=value, for example train.max_iter=100"
        ) from error
    for key, old in before.items():
        _check_kind(key, old, _raw(config, key))
    _move_renamed_keys(config)
    if unknown:
        logging.getLogger(__name__).warning(
            "These overrides name keys that the config did not have: %s", ", ".join(unknown)
        )
    return config


def _is_known(config: DictConfig, key: str) -> bool:
    missing = object()
    there = OmegaConf.select(config, key, default=missing) is not missing
    return there or key.rpartition(".")[2] in _keywords(_parent(config, key))


def _told(config: DictConfig, key: str) -> str:
    """A key that is not there, with the one beside it that was perhaps meant."""
    node = _parent(config, key)
    names = {*map(str, node), *_keywords(node)} if OmegaConf.is_dict(node) else set()
    return key + did_you_mean(key.rpartition(".")[2], sorted(names))


def _parent(config: DictConfig, key: str) -> Any:
    parent = key.rpartition(".")[0]
    return OmegaConf.select(config, parent) if parent else config


def _keywords(node: Any) -> Collection[str]:
    """What the target of an `L(...)` node takes."""
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        return ()
    try:
        return inspect.signature(target_of(node)).parameters.keys()
    except Exception:  # it cannot be located, or is no Python function: told when it is called
        return ()


def _move_renamed_keys(config: DictConfig) -> None:
    """Keys that 0.1 had elsewhere, in place; gone in 0.3, as the modules of renamed.py."""
    model = config.get("model")
    if not isinstance(model, DictConfig) or "trained_parts" not in model:
        return
    parts = model.pop("trained_parts")
    OmegaConf.update(config, "train.trained_parts", parts, force_add=True)
    warnings.warn(
        "model.trained_parts is called train.trained_parts now; the old name goes with 0.3",
        FutureWarning,
        stacklevel=3,
    )


def _check_kind(key: str, old, new) -> None:
    """Raise for a number or a switch that became a text ("no" is true), or a part that became one
    value: whoever uses it much later would say so less clearly."""
    if isinstance(old, (bool, int, float)) and isinstance(new, str) and not new.startswith("${"):
        kind = "true or false" if isinstance(old, bool) else "a number"
        raise ConfigError(f"{key}={new} is a text, but it must be {kind}, such as {key}={old}")
    if OmegaConf.is_dict(old) and new is not None and not OmegaConf.is_config(new):
        parts = ", ".join(map(str, old))
        raise ConfigError(f"{key}={new} would replace a part of the config that has: {parts}")


def _raw(config: DictConfig, key: str):
    """The value at a key, an interpolation as its text; None where there is none."""
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not OmegaConf.is_dict(node) or leaf not in node.keys():
        return None
    child = node._get_node(leaf)
    return child._value() if isinstance(child, ValueNode) else child


def load_model_config(name: str | Path) -> DictConfig:
    """Load the `model` node of a LazyConfig, ready for `instantiate`.

    Args and errors: see `resolve_config`; also `ConfigError` when the file defines
    no `model`.
    """
    config = get_config(name)
    if "model" not in config:
        raise ConfigError(
            f"the config '{resolve_config(name)}' defines no `model` (it defines: "
            f"{', '.join(sorted(map(str, config))) or 'nothing'})"
        )
    return config.model


def target_of(node: DictConfig) -> Any:
    """What an `L(...)` node calls: the function or class itself, also where it is named."""
    target = node["_target_"]
    return locate(target) if isinstance(target, str) else target


def shipped_folders(name: str) -> list[Path]:
    """Where a folder of shipped files is: inside an installed package, or beside it in a clone.

    Args:
        name: "configs" or "weights".
    """
    package = Path(__file__).resolve().parent
    folders = (package / name, package.parent / name)
    return [folder for folder in folders if folder.is_dir()]


def _without_configs_prefix(path: Path) -> Path:
    return Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path


def _shipped() -> list[str]:
    """The names of the shipped configs."""
    found = {
        p.relative_to(f).as_posix() for f in shipped_folders("configs") for p in f.rglob("*.py")
    }
    return sorted(name for name in found if not name.startswith("common/"))


def _shipped_hint() -> str:
    names = ", ".join(_shipped())
    return f"Shipped: {names}" if names else "No shipped configs were found beside the package"
