"""Recipes: part of a config that is added to the config of any model.

An evaluation recipe (`configs/eval/`) holds the test sets, evaluators and model settings of a
benchmark; a fine-tuning recipe (`configs/finetune/`) holds training data and schedule as well.
"""

from pathlib import Path

from omegaconf import DictConfig, open_dict

from ..config import get_config, resolve_config
from ..errors import ConfigError

__all__ = ["add_recipe"]

# Of a dataloader, replaced as a whole: merged parts of two test sets would be neither.
LOADER_PARTS = ("train", "test", "evaluator", "further_tests", "summary")


def add_recipe(config: DictConfig, name: str | Path) -> None:
    """Add a recipe to a config, in place.

    `dataloader.train`, `test`, `evaluator`, `further_tests` and `summary` replace those
    of the config, as does any other node with a `_target_`. The remaining values are set one by
    one, and must be there already: a setting that a model does not know would change nothing. Names
    at the top that the config does not have (`evaluation`) are the recipe's own options.

    Args:
        config: a whole LazyConfig, before the overrides of the command line.
        name: what `resolve_config` takes, e.g. `"eval/coco.py"`.

    Raises:
        ConfigError: no such file, a file without test sets, or one that sets what the config does
            not have.
    """
    path = resolve_config(name)
    recipe = get_config(path)
    parts = recipe.get("dataloader", {})
    if "test" not in parts or "evaluator" not in parts:
        raise ConfigError(f"'{path}' is no recipe: it defines no dataloader.test and evaluator")
    loaders = config.dataloader
    with open_dict(loaders):
        for key in ("further_tests", "summary"):
            loaders.pop(key, None)  # the config's own go with its test sets
        for key in LOADER_PARTS:
            if key in parts:
                loaders[key] = parts._get_node(key)
    for key in set(recipe) - {"dataloader"}:
        _set(config, recipe, str(key), str(key), path)


def _set(target: DictConfig, source: DictConfig, key: str, name: str, path: str) -> None:
    node = source._get_node(key)  # nothing is resolved
    old = target._get_node(key) if key in target else None
    if not (isinstance(old, DictConfig) and isinstance(node, DictConfig)) or "_target_" in node:
        target[key] = node
        return
    for inner in map(str, node):
        where = f"{name}.{inner}"
        if inner not in old:
            raise ConfigError(
                f"the recipe '{path}' sets {where}, which this config does not have: recipes are "
                "for the models of this project (configs/pretrain, configs/demo/scenes.py)"
            )
        _set(old, node, inner, where, path)
