"""The runs of a sweep: one data set in one setting each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...data.few_shot import few_shot_split

ALL = "all"
# GLIP's README: so often an epoch sees each image; few images would else give very short epochs.
COPIES = {1: 8, 3: 4, 5: 2, 10: 1}
ZERO_SHOT = "-"  # the mode of a run that tunes nothing


class SweepData(NamedTuple):
    """The registered data sets of one task.

    Attributes:
        name: in tables and of folders, e.g. `"Aquarium"`.
        prefix: of the names of its few-shot subsets, e.g. `"odinw_Aquarium"`.
        select: the split that chooses the model, in the names of these: `"val"` or `"minival"`.
        train, val, test: names of the whole sets.
    """

    name: str
    prefix: str
    select: str
    train: str
    val: str
    test: str

    @property
    def whole(self) -> tuple[str, str, str]:
        return self.train, self.val, self.test

    def few_shot(self, base: str, shots: int, seed: int) -> str:
        """The registered name of a subset; `base`: `"train"` or `select`."""
        return f"{self.prefix}_{few_shot_split(base, shots, seed)}"


class Run(NamedTuple):
    """One data set in one setting.

    Attributes:
        data: the data sets.
        mode: of transfer, see `engine.transfer`; `ZERO_SHOT`.
        shots: images of each class; 0 for zero-shot, None for all data.
        seed: of the few-shot files; None for zero-shot and all data.
    """

    data: SweepData
    mode: str
    shots: int | None
    seed: int | None

    @property
    def dataset(self) -> str:
        return self.data.name

    @property
    def setting(self) -> str:
        """Folder of the setting: `zero_shot`, `3_shot_seed30`, `prompt_all_data`."""
        if self.shots == 0:
            return "zero_shot"
        tuned = "" if self.mode == "full" else f"{self.mode}_"
        return tuned + ("all_data" if self.shots is None else f"{self.shots}_shot_seed{self.seed}")

    def folder(self, output: Path) -> Path:
        return output / self.setting / self.dataset

    @property
    def copies(self) -> int:
        """How often an epoch sees each training image."""
        if not self.shots:
            return 1
        return next((COPIES[k] for k in sorted(COPIES, reverse=True) if k <= self.shots), 1)

    def training_sets(self) -> tuple[str, str] | None:
        """Names of the training set and of the one that chooses; None for zero-shot."""
        if self.shots == 0:
            return None
        if self.shots is None or self.seed is None:
            return self.data.train, self.data.val
        bases = ("train", self.data.select)
        train, choose = (self.data.few_shot(base, self.shots, self.seed) for base in bases)
        return train, choose

    def needed(self) -> list[str]:
        """All data sets that the run reads."""
        return [*(self.training_sets() or ()), self.data.val, self.data.test]


def plan_runs(
    datasets: Iterable[SweepData], shots: Sequence[str], seeds: Sequence[int], modes: Sequence[str]
) -> list[Run]:
    """The runs of a sweep: setting after setting, each in the order of the data sets.

    Args:
        datasets: in the order of the table.
        shots: `"0"` for zero-shot, a number of images of each class, or `"all"`.
        seeds: of the few-shot files.
        modes: ways of transfer; zero-shot there is nothing to transfer.
    """
    datasets = list(datasets)
    runs = []
    for mode in dict.fromkeys(modes):
        for word in dict.fromkeys(shots):
            count = None if word == ALL else int(word)
            own_mode = ZERO_SHOT if count == 0 else mode
            for seed in dict.fromkeys(seeds) if count else (None,):
                runs += [Run(data, own_mode, count, seed) for data in datasets]
    return list(dict.fromkeys(runs))
