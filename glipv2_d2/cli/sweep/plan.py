"""The runs of a sweep: one data set in one setting each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detectron2.data import MetadataCatalog

from ...data.datasets.odinw import odinw_names
from ...errors import ConfigError

ALL = "all"
# GLIP's README: so often an epoch sees each image; few images would else give very short epochs.
COPIES = {1: 8, 3: 4, 5: 2, 10: 1, None: 1}


class Run(NamedTuple):
    """One data set in one setting.

    Attributes:
        dataset: name in ODinW's table, e.g. `"Aquarium"`.
        prefix: of its registered names, e.g. `"odinw_Aquarium"`.
        select: split that chooses the model, `"val"` or `"minival"`.
        shots: images of each class; 0 for zero-shot, None for all data.
        seed: of the few-shot files; None for zero-shot and all data.
    """

    dataset: str
    prefix: str
    select: str
    shots: int | None
    seed: int | None

    @property
    def setting(self) -> str:
        """Folder of the setting: `zero_shot`, `3_shot_seed30` or `all_data`."""
        if self.shots == 0:
            return "zero_shot"
        return "all_data" if self.shots is None else f"{self.shots}_shot_seed{self.seed}"

    def folder(self, output: Path) -> Path:
        return output / self.setting / self.dataset

    def training_sets(self) -> tuple[str, str] | None:
        """Names of the training set and of the one that chooses; None for zero-shot."""
        if self.shots == 0:
            return None
        if self.shots is None:
            return f"{self.prefix}_train", f"{self.prefix}_{self.select}"
        files = f"shot{self.shots}_seed{self.seed}"
        return (
            f"{self.prefix}_fewshot_train_{files}",
            f"{self.prefix}_fewshot_{self.select}_{files}",
        )

    def needed(self) -> list[str]:
        """All data sets that the run reads."""
        names = [f"{self.prefix}_{self.select}", f"{self.prefix}_test"]
        return [*(self.training_sets() or ()), *names]


def plan_runs(
    suite: int, shots: Sequence[str], seeds: Sequence[int], only: Sequence[str] = ()
) -> list[Run]:
    """The runs of a sweep: setting after setting, each in the order of the suite.

    Args:
        suite: 13 or 35.
        shots: of `"0"`, `"1"`, `"3"`, `"5"`, `"10"`, `"all"`.
        seeds: of the few-shot files.
        only: names of ODinW's table; all data sets of the suite by default.

    Raises:
        ConfigError: a data set that the suite does not have.
    """
    datasets = []
    for test, select in zip(odinw_names(suite, "test"), odinw_names(suite, "select")):
        name = MetadataCatalog.get(test).odinw_name
        datasets.append((name, test.removesuffix("_test"), select.rsplit("_", 1)[-1]))
    known = [name for name, _, _ in datasets]
    if strangers := [name for name in only if name not in known]:
        raise ConfigError(
            f"ODinW-{suite} has no data set {strangers[0]!r}; it has: {', '.join(known)}"
        )
    datasets = [entry for entry in datasets if not only or entry[0] in only]
    runs = []
    for word in dict.fromkeys(shots):
        count = None if word == ALL else int(word)
        for seed in dict.fromkeys(seeds) if count else (None,):
            runs += [Run(*entry, count, seed) for entry in datasets]
    return runs
