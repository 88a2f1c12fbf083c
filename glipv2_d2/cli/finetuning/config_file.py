"""The config of a fine-tuning, a file that the user can read, change and train with by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...files import whole_file
from .kept import OldSet
from .plan import Setting

RECIPE = "finetune/own_data.py"
_NAMES = "model, dataloader, optimizer, lr_multiplier, train, inference"

_HEAD = '''\
"""Written by `glip finetune`; `glip train --config-file {path}` trains the same.

What `glip finetune` chose stands below, each with its reason.
"""

import runpy

from glipv2_d2.config import apply_overrides, get_config
from glipv2_d2.data import register_coco_dataset
from glipv2_d2.engine.evaluate import add_test_set
from glipv2_d2.engine.recipes import add_recipe
from glipv2_d2.engine.transfer import set_mode
'''


class Task(NamedTuple):
    """What is fine-tuned on what.

    Attributes:
        base: config file of the model.
        weights: file of the base.
        mode: of `MODES`.
        train, val: registered names of one's own data, whose files are `data/<name>.json`.
        replay: entries of `dataloader.train.datasets`.
        old: sets that measure forgetting.
        watched: whether they are evaluated during the training, too.
        register: files of `--register`.
        overrides: `key=value` of the command line.
    """

    base: str
    weights: str
    mode: str
    train: str
    val: str
    replay: list[list]
    old: list[OldSet]
    watched: bool
    register: list[str]
    overrides: list[str]


def is_own_config(path: Path) -> bool:
    """Whether `write_config` has written a file."""
    return path.read_text(encoding="utf-8", errors="replace").startswith(_HEAD.split(";")[0])


def write_config(path: Path, folder: Path, task: Task, settings: Sequence[Setting]) -> None:
    """Write the config.

    Args:
        path: of the config.
        folder: of the run, with `data/`; its training goes into `training/`.
        task: what is trained.
        settings: of the plan; later ones replace those before.
    """
    watched = task.old if task.watched else []
    metric = f"{task.val}/bbox/AP" if watched else "bbox/AP"
    own = {name: f"{folder / 'data' / name}.json" for name in (task.train, task.val)}
    lines = [_HEAD.format(path=path)]
    lines += [f"runpy.run_path({script!r})" for script in task.register]
    for name, json_file in own.items():
        lines.append(f"register_coco_dataset({name!r}, {json_file!r}, '')")
    for old in task.old:
        if old.file:
            more = ""
            if old.evaluated_classes is not None:
                more = f", evaluated_classes={list(old.evaluated_classes)!r}"
            lines.append(f"register_coco_dataset({old.name!r}, {old.file!r}, ''{more})")
    lines += [
        "",
        f"_config = get_config({task.base!r})",
        f"add_recipe(_config, {RECIPE!r})",
        f"set_mode(_config, {task.mode!r})",
        f"_config.dataloader.train.datasets = {[[task.train, 1.0], *task.replay]!r}",
        f"_config.own.val = {task.val!r}",
        *(f"add_test_set(_config.dataloader, {old.name!r})" for old in watched),
        f"_config.train.best_metric = {metric!r}",
        f"_config.train.init_checkpoint = {task.weights!r}",
        f"_config.train.output_dir = {str(folder / 'training')!r}",
        "",
    ]
    for setting in settings:
        if setting.key:
            lines += [f"# {setting.topic}: {setting.why}"] if setting.why else []
            lines.append(f"_config.{setting.key} = {setting.value!r}")
    if task.overrides:
        lines += ["", f"_config = apply_overrides(_config, {task.overrides!r})"]
    lines += ["", f"{_NAMES} = (\n    _config[key] for key in {_NAMES.split(', ')!r}\n)"]
    with whole_file(path, "w") as file:
        file.write("\n".join([*lines, "own = _config.own", ""]))
