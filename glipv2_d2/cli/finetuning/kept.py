"""What the base knows and shall not forget: images that are replayed, sets that measure it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from detectron2.data import MetadataCatalog
from omegaconf import DictConfig

from ...data.loading import load_records, read_dataset
from ...engine.evaluate import missing_files
from ...engine.image_headers import dataset_names
from ...errors import DataError, UsageError
from ...language.class_names import detection_classes
from .own_data import write_records

NONE = "none"
MOST_OLD = 100  # images of each set, which is evaluated again and again


class OldSet(NamedTuple):
    """A set of classes that the base knows.

    Attributes:
        source: the registered data set.
        name: of the part that is evaluated, in `file`.
        file: COCO json; empty: the data set as it is.
        evaluated_classes: those that count; None: all.
        told: in a sentence, what is evaluated.
    """

    source: str
    name: str
    file: str
    evaluated_classes: list[str] | None
    told: str


def find_replay(
    wanted: Sequence[str], config: DictConfig, say: Callable[[str], None]
) -> list[tuple[str, float, int]]:
    """(name, weight among each other, number of images) of what is replayed.

    Args:
        wanted: registered names; "none" alone: nothing; empty: the training data of the config, as
            far as they are on this machine.
        config: of the base.
        say: takes what is not there.

    Raises:
        DataError: what was named is not there. UsageError: "none" beside a name.
    """
    if _is_none("--replay", wanted):
        return []
    entries = config.dataloader.train.get("datasets") or []
    mix = dict.fromkeys(wanted, 1.0) or dict(map(_entry, entries))
    missing = missing_files(mix)
    if missing and wanted:
        listed = ", ".join(f"{name} (no {path})" for name, path in missing.items())
        raise DataError(f"--replay: not on the disk: {listed}")
    if missing:
        say(f"not replayed, as not on this machine: {', '.join(missing)}")
    return [(name, w, len(read_dataset(name))) for name, w in mix.items() if name not in missing]


def _is_none(option: str, wanted: Sequence[str]) -> bool:
    if NONE in wanted and len(wanted) > 1:
        others = ", ".join(name for name in wanted if name != NONE)
        raise UsageError(f"{option} {NONE} is no data set at all: leave it out beside {others}")
    return NONE in wanted


def _entry(entry: str | Sequence) -> tuple[str, float]:
    return (entry, 1.0) if isinstance(entry, str) else (entry[0], float(entry[1]))


def find_old_sets(
    wanted: Sequence[str], config: DictConfig, folder: Path, seed: int
) -> list[OldSet]:
    """The sets on which forgetting is measured, cut to `MOST_OLD` images each.

    Args:
        wanted: registered names; "none" alone: none; empty: the first test set of the config, if it
            is one of detection and on this machine.
        config: of the base.
        folder: for the annotations of the parts.
        seed: of the choice of images.

    Raises:
        DataError: what was named is not there. UsageError: it is no detection data, or "none"
            beside a name.
    """
    if _is_none("--old", wanted):
        return []
    names = list(wanted)
    if not names:
        own = dataset_names(config.dataloader.test) if "test" in config.dataloader else []
        names = [name for name in own if _is_coco(name) and not missing_files([name])][:1]
    if missing := missing_files(names):
        listed = ", ".join(f"{name} (no {path})" for name, path in missing.items())
        raise DataError(f"--old: not on the disk: {listed}")
    return [_old_set(name, folder, seed) for name in names]


def _is_coco(name: str) -> bool:
    return MetadataCatalog.get(name).get("evaluator_type") == "coco"


def _old_set(name: str, folder: Path, seed: int) -> OldSet:
    records = load_records(name)
    if not _is_coco(name) or len(records) <= MOST_OLD:
        return OldSet(name, name, "", None, f"{name}, {len(records)} images")
    classes = detection_classes(name)
    if classes is None:
        raise UsageError(f"--old takes data sets of detection, and {name!r} has captions")
    part = f"{name}_{MOST_OLD}"
    file = folder / f"{part}.json"
    write_records(file, random.Random(seed).sample(records, MOST_OLD), classes)
    told = f"{name}, {MOST_OLD} of {len(records)} images, drawn with seed {seed}"
    evaluated = MetadataCatalog.get(name).get("evaluated_classes")
    return OldSet(name, part, str(file), evaluated, told)
