"""How well a model is transferred to several data sets: means and deviations over seeds.

The tables of GLIPv2: each data set in each setting (Tables 11 and 12), the averages by the number
of shots (Table 3, Figure 3).
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .tables import Table

__all__ = [
    "Score",
    "TransferLine",
    "TransferRun",
    "averages_table",
    "scores_csv",
    "shots_name",
    "summarize",
    "transfer_table",
]


class TransferRun(NamedTuple):
    """One evaluation of one data set.

    Attributes:
        dataset: its name, for instance `"Aquarium"`.
        split: `"val"` or `"test"`, or the name of a test set of what the model could do before.
        ap: COCO's AP in percent.
        shots: training images of each class; 0 for zero-shot, None for all data.
        seed: of the few-shot file; None for zero-shot and all data.
    """

    dataset: str
    split: str
    ap: float
    shots: int | None = 0
    seed: int | None = None


class Score(NamedTuple):
    """A mean, and the standard deviation over seeds; None without seeds."""

    mean: float
    std: float | None = None

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "-"
        return f"{self.mean:.1f}" + ("" if self.std is None else f" ± {self.std:.1f}")


class TransferLine(NamedTuple):
    """A line of the table: a setting with the score of each data set and their average."""

    split: str
    shots: int | None
    scores: dict[str, Score]
    average: Score


def shots_name(shots: int | None) -> str:
    """How tables call a number of shots: `"0"`, `"3"`, `"All"`."""
    return "All" if shots is None else str(shots)


def summarize(
    runs: Iterable[TransferRun], datasets: Sequence[str], title: str = "transfer"
) -> list[TransferLine]:
    """Make a line for each setting: zero-shot, each number of shots, all data; test before val.

    The average of a few-shot setting is the mean over its seeds of the averages over the data
    sets, with the (population) standard deviation over the seeds, which the papers do not
    define more closely. As long as a data set or a seed of one is missing, the average is NaN and
    what is missing is logged: an average over fewer data sets is another number.

    Args:
        runs: in any order, of one way of tuning.
        datasets: all that the average is over.
        title: of the log's lines.

    Raises:
        DataError: two runs of one data set in one setting.
    """
    settings: dict[tuple[str, int | None], dict[tuple, float]] = {}
    for run in runs:
        values = settings.setdefault((run.split, run.shots), {})
        if (run.dataset, run.seed) in values:
            raise DataError(f"two runs of the same setting: {run}")
        values[run.dataset, run.seed] = run.ap
    order = sorted(
        settings, key=lambda s: (s[1] is None, s[1] or 0, s[0] != "test", s[0] != "val", s[0])
    )
    return [_line(split, n, settings[split, n], datasets, title) for split, n in order]


def _line(
    split: str,
    shots: int | None,
    values: Mapping[tuple, float],
    datasets: Sequence[str],
    title: str,
) -> TransferLine:
    seeds = sorted({seed for _, seed in values}, key=lambda seed: (seed is not None, seed))
    missing = [
        name if seed is None else f"{name} (seed {seed})"
        for name in datasets
        for seed in seeds
        if (name, seed) not in values
    ]
    if missing:
        logging.getLogger(__name__).warning(
            "%s %s, %s shots: no average, as these are missing: %s",
            title, split, shots_name(shots).lower(), ", ".join(missing),
        )  # fmt: skip
    scores = {
        name: _score([values[name, seed] for seed in seeds if (name, seed) in values], seeds)
        for name in datasets
    }
    averages = [] if missing else [float(np.mean([values[n, s] for n in datasets])) for s in seeds]
    return TransferLine(split, shots, scores, _score(averages, seeds))


def _score(values: Sequence[float], seeds: Sequence[int | None]) -> Score:
    if not len(values):
        return Score(float("nan"))
    return Score(float(np.mean(values)), None if seeds == [None] else float(np.std(values)))


def transfer_table(
    title: str,
    lines: Sequence[TransferLine],
    columns: Mapping[str, str],
    heading: Mapping[str, str],
) -> Table:
    """Make the table as in GLIPv2's Tables 11 and 12, with the split as a column of its own.

    Args:
        title: of the table.
        lines: of `summarize`.
        columns: data set -> heading of its column.
        heading: leading columns, for instance `{"Model": "GLIP-T", "Tune": "full"}`.
    """
    rows = [
        [*heading.values(), shots_name(shots), split, *(scores[name] for name in columns), average]
        for split, shots, scores, average in lines
    ]
    return Table(title, [*heading, "Shot", "Split", *columns.values(), "Avg"], rows)


def averages_table(title: str, lines: Mapping[str, Sequence[TransferLine]]) -> Table:
    """Make the table of averages by the number of shots, as GLIPv2's Table 3.

    Args:
        title: of the table.
        lines: how the model was tuned -> lines of `summarize`; the validation split, which chooses
            the model, is left out.
    """
    shown = {mode: [line for line in of if line.split != "val"] for mode, of in lines.items()}
    columns = {line.shots for of in shown.values() for line in of}
    ordered = sorted(columns, key=lambda shots: (shots is None, shots))
    rows: list[list] = []
    for mode, of in shown.items():
        for split in dict.fromkeys(line.split for line in of):
            averages = {line.shots: line.average for line in of if line.split == split}
            none = Score(float("nan"))
            rows.append([mode, split, *(averages.get(shots, none) for shots in ordered)])
    return Table(title, ["Tune", "Split", *map(shots_name, ordered)], rows)


def scores_csv(table: Table) -> str:
    """Write a table as CSV in full precision: a column of deviations beside each one of scores."""
    scored = [
        any(isinstance(row[i], Score) for row in table.rows) for i in range(len(table.columns))
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [(name, f"{name} std") if has else (name,) for name, has in zip(table.columns, scored)]
    writer.writerow([name for names in titles for name in names])
    for row in table.rows:
        cells = [[*cell] if has else [cell] for cell, has in zip(row, scored)]
        writer.writerow(["" if _is_gap(value) else value for cell in cells for value in cell])
    return text.getvalue()


def _is_gap(value: object) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))
