"""Object Detection in the Wild: registration of ODinW-13 and ODinW-35 (GLIP, ELEVATER).

`odinw_<name>_{train,val,test}` (and `_minival` where there is one) and the few-shot files
`odinw_<name>_fewshot_{train,val}_shot{1,3,5,10}_seed{3,30,300}`; the names and facts are in
`odinw.yaml`. Class names are the official overrides of the 13-set. Two data sets are called
otherwise in the 35-set; those are registered once more as `odinw35_<name>_...`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..few_shot import few_shot_split
from ..reader import Reader
from .coco_like import load_coco_style_json

SHOTS = (1, 3, 5, 10)
SEEDS = (3, 30, 300)

_FOLDERS = {"train": "train", "val": "valid", "test": "test", "minival": "mini_val"}


class OdinwRow(NamedTuple):
    """One data set; the fields are explained in `odinw.yaml`."""

    name: str
    folder: str
    classes: Sequence[str]
    in_13: bool = False
    names_35: Sequence[str] = ()
    flat: bool = False
    minival: bool = False
    test_is_val: bool = False
    knowledge: Sequence[Sequence[str]] = ()


def _read_rows() -> tuple[OdinwRow, ...]:
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    # libyaml's loader, where PyYAML has it: this is read on import.
    rows = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return tuple(OdinwRow(**{"folder": row["name"], **row}) for row in rows)


ODINW_ROWS = _read_rows()


def _prefix(row: OdinwRow, suite: int) -> str:
    return f"odinw35_{row.name}" if suite == 35 and row.names_35 else f"odinw_{row.name}"


def odinw_names(suite: int = 13, split: str = "test") -> list[str]:
    """The registered names of the 13 or 35 data sets, in the order of the official configs.

    Args:
        suite: 13 or 35.
        split: `"test"` (what the papers' tables report), `"val"`, `"train"`, `"select"`
            (what GLIP's configs evaluate on to choose a checkpoint: the small validation set
            where there is one), or a few-shot split as `"fewshot_train_shot3_seed30"`.

    Raises:
        ValueError: another suite or split.
    """
    if suite not in (13, 35):
        raise ValueError(f"ODinW has suites of 13 and 35 data sets, not {suite!r}")
    splits = {"train", "val", "test", "select", *(s for s, _ in _few_shot_files(False))}
    if split not in splits:
        raise ValueError(f"unknown ODinW split {split!r}; known: {sorted(splits)}")
    names = []
    for row in ODINW_ROWS:
        if suite == 35 or row.in_13:
            chosen = ("minival" if row.minival else "val") if split == "select" else split
            names.append(f"{_prefix(row, suite)}_{chosen}")
    return names


def _few_shot_files(minival: bool) -> list[tuple[str, str]]:
    """(split, its base split) of the few-shot files, for instance fewshot_train_shot1_seed3."""
    bases = ("train", "val", "minival") if minival else ("train", "val")
    return [
        (few_shot_split(base, shots, seed), base)
        for base in bases
        for shots in SHOTS
        for seed in SEEDS
    ]


def odinw_files(row: OdinwRow) -> dict[str, tuple[str, str]]:
    """split -> (json, image folder), below `odinw/`."""
    files = {}
    bases = ("train", "val", "test", "minival") if row.minival else ("train", "val", "test")
    for base in bases:
        source = "val" if base == "test" and row.test_is_val else base
        if row.flat:
            json_file = f"{row.folder}/{source}_annotations_without_background.json"
            files[base] = (json_file, row.folder)
        else:
            folder = f"{row.folder}/{_FOLDERS[source]}"
            files[base] = (f"{folder}/annotations_without_background.json", folder)
    for split, base in _few_shot_files(row.minival):
        folder = files[base][1]
        files[split] = (f"{folder}/{split}.json", folder)
    return files


def register_odinw(root: str) -> None:
    """Register every split of every data set that is not registered yet.

    Args:
        root: the folder of the data sets, which holds `odinw/`.
    """
    for row in ODINW_ROWS:
        for split, (json_file, folder) in odinw_files(row).items():
            for suite in (13, 35) if row.names_35 else (13,):
                reader = Reader(
                    load_coco_style_json,
                    os.path.join(root, "odinw", json_file),
                    os.path.join(root, "odinw", folder),
                    f"{_prefix(row, suite)}_{split}",
                    classes=row.names_35 if suite == 35 else row.classes,
                )
                reader.register(evaluator_type="coco", **_metadata(row, reader.options["classes"]))


def _metadata(row: OdinwRow, classes: Sequence[str]) -> dict[str, Any]:
    fields = {
        "odinw": True,
        "odinw_name": row.name,
        "thing_classes": list(classes),
        # The official configs number the categories 1, 2, ...; the reader checks it.
        "thing_dataset_id_to_contiguous_id": {i + 1: i for i in range(len(classes))},
    }
    if row.knowledge:
        fields["caption_knowledge"] = {
            class_name: {"prefix": prefix, "name": told, "suffix": suffix}
            for class_name, (prefix, told, suffix) in zip(classes, row.knowledge)
        }
    return fields
