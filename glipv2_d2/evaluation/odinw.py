"""ODinW: makes the tables of the papers and the file for EvalAI from COCO results.

One data set is evaluated by the COCO evaluator (`odinw_<name>_<split>` have evaluator_type
"coco"). The benchmark's number is the plain mean of the AP over 13 (GLIP, GLIPv2) or 35 (ELEVATER)
data sets.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import MetadataCatalog

from ..data.datasets.coco_like import load_json
from ..data.datasets.odinw import ODINW_ROWS
from ..errors import DataError
from ..files import whole_file
from .tables import Table

# The columns of GLIPv2's Tables 11 and 12, in their order.
PAPER_COLUMNS = {
    "PascalVOC": "PascalVOC",
    "AerialMaritimeDrone_large": "AerialDrone",
    "Aquarium": "Aquarium",
    "CottontailRabbits": "Rabbits",
    "EgoHands_generic": "EgoHands",
    "NorthAmericaMushrooms": "Mushrooms",
    "Packages": "Packages",
    "Raccoon": "Raccoon",
    "ShellfishOpenImages": "Shellfish",
    "VehiclesOpenImages": "Vehicles",
    "pistols": "Pistols",
    "pothole": "Pothole",
    "thermalDogsAndPeople": "Thermal",
}
_FIELDS = ("image_id", "category_id", "bbox", "score")


class ODinWRun(NamedTuple):
    """One evaluation of one data set.

    Attributes:
        dataset: a name of ODinW's table, for instance `"Aquarium"`.
        split: `"val"` or `"test"`.
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


class ODinWLine(NamedTuple):
    """A line of the table: a setting with the score of each data set and their average."""

    split: str
    shots: int | None
    scores: dict[str, Score]
    average: Score


def odinw_run(
    dataset_name: str,
    results: Mapping[str, Mapping[str, float]],
    shots: int | None = 0,
    seed: int | None = None,
) -> ODinWRun:
    """Make a run from what the COCO evaluator returned for a registered data set.

    `minival`, the smaller validation set on which the official configs select the models of some
    data sets, counts as `val`.

    Raises:
        DataError: the data set is not one of ODinW.
    """
    dataset = MetadataCatalog.get(dataset_name).get("odinw_name")
    if dataset is None:
        raise DataError(f"{dataset_name!r} is no data set of ODinW: its metadata has no odinw_name")
    split = dataset_name.rsplit("_", 1)[-1]
    split = {"minival": "val"}.get(split, split)
    return ODinWRun(dataset, split, float(results["bbox"]["AP"]), shots, seed)


def odinw_report(
    results: Mapping[str, Mapping[str, Mapping[str, float]]], suite: int = 13
) -> Table:
    """Make the zero-shot table of an evaluation of several data sets at once.

    Args:
        results: registered name -> what the COCO evaluator returned.
        suite: 13 or 35.
    """
    runs = [odinw_run(name, result) for name, result in results.items()]
    return odinw_table(summarize_odinw(runs, suite), suite)


def odinw_columns(suite: int = 13) -> dict[str, str]:
    """Return data set -> heading of its column, in the order of the table.

    Raises:
        ValueError: a suite that is neither 13 nor 35.
    """
    if suite == 13:
        return dict(PAPER_COLUMNS)
    if suite == 35:
        return {row.name: row.name for row in ODINW_ROWS}
    raise ValueError(f"ODinW has suites of 13 and 35 data sets, not {suite!r}")


def summarize_odinw(runs: Iterable[ODinWRun], suite: int = 13) -> list[ODinWLine]:
    """Make a line for each setting: zero-shot, each number of shots, all data; test before val.

    The average of a few-shot setting is the mean over its seeds of the averages over the data
    sets, with the (population) standard deviation over the seeds, which the papers do not
    define more closely. As long as a data set or a seed of one is missing, the average is NaN and
    what is missing is logged: an average over fewer data sets is not the benchmark's number.

    Args:
        runs: in any order; data sets outside the suite are left out.
        suite: 13 or 35.

    Raises:
        DataError: two runs of one data set in one setting, or an unknown data set.
    """
    columns = odinw_columns(suite)
    known = {row.name for row in ODINW_ROWS}
    settings: dict[tuple, dict[tuple, float]] = {}
    for run in runs:
        if run.dataset not in known:
            raise DataError(f"ODinW has no data set {run.dataset!r}")
        if run.dataset not in columns:
            continue
        values = settings.setdefault((run.split, run.shots), {})
        if (run.dataset, run.seed) in values:
            raise DataError(f"two runs of the same setting: {run}")
        values[run.dataset, run.seed] = run.ap
    order = sorted(settings, key=lambda s: (s[1] is None, s[1] or 0, s[0] != "test", s[0]))
    return [_line(split, shots, settings[split, shots], list(columns)) for split, shots in order]


def _line(split, shots, values, datasets) -> ODinWLine:
    seeds = sorted({seed for _, seed in values}, key=lambda seed: (seed is not None, seed))
    missing = [
        name if seed is None else f"{name} (seed {seed})"
        for name in datasets
        for seed in seeds
        if (name, seed) not in values
    ]
    if missing:
        logging.getLogger(__name__).warning(
            "ODinW %s, %s shots: no average, as these are missing: %s",
            split,
            "all" if shots is None else shots,
            ", ".join(missing),
        )
    scores = {
        name: _score([values[name, seed] for seed in seeds if (name, seed) in values], seeds)
        for name in datasets
    }
    averages = [] if missing else [np.mean([values[n, s] for n in datasets]) for s in seeds]
    return ODinWLine(split, shots, scores, _score(averages, seeds))


def _score(values: Sequence[float], seeds: Sequence[int | None]) -> Score:
    if not len(values):
        return Score(float("nan"))
    return Score(float(np.mean(values)), None if seeds == [None] else float(np.std(values)))


def odinw_table(
    lines: Sequence[ODinWLine], suite: int = 13, heading: Mapping[str, str] | None = None
) -> Table:
    """Make the table as in GLIPv2's Tables 11 and 12, with the split as a column of its own.

    Args:
        lines: of `summarize_odinw`.
        suite: the same.
        heading: leading columns, for instance `{"Model": "GLIP-T", "Tune": "Full"}`.
    """
    heading = dict(heading or {})
    columns = odinw_columns(suite)
    rows = [
        [*heading.values(), "All" if shots is None else str(shots), split]
        + [*(scores[name] for name in columns), average]
        for split, shots, scores, average in lines
    ]
    titles = [*heading, "Shot", "Split", *columns.values(), "Avg"]
    return Table(f"ODinW-{suite}", titles, rows)


def odinw_csv(
    lines: Sequence[ODinWLine], suite: int = 13, heading: Mapping[str, str] | None = None
) -> str:
    """Write the table as CSV in full precision, with a column of deviations beside each mean."""
    table = odinw_table(lines, suite, heading)
    first = len(heading or {}) + 2  # of the columns with scores
    titles = [title for name in table.columns[first:] for title in (name, f"{name} std")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*table.columns[:first], *titles])
    for row in table.rows:
        values = [value for score in row[first:] for value in score]
        gaps = (value is None or np.isnan(value) for value in values)
        writer.writerow([*row[:first], *("" if gap else v for v, gap in zip(values, gaps))])
    return text.getvalue()


def write_evalai(
    results_files: Mapping[str, str | os.PathLike | Mapping[int, str | os.PathLike]], path: str
) -> None:
    """Write the file for the ODinW challenge on EvalAI (format: README of GLIP's repository).

    Zero-shot and all data: `{"Aquarium": [COCO results], ...}`; few-shot:
    `{"Aquarium": {"3": [COCO results], "30": ..., "300": ...}, ...}`.

    Args:
        results_files: data set of ODinW's table -> `coco_instances_results.json` of the COCO
            evaluator, or seed -> such a file.
        path: the file to write.

    Raises:
        DataError: an unknown data set, or a file that holds no COCO results.
    """
    unknown = set(results_files) - {row.name for row in ODINW_ROWS}
    if unknown:
        raise DataError(f"ODinW has no data set {sorted(unknown)[0]!r}")
    content = {
        name: {str(seed): _coco_results(file) for seed, file in files.items()}
        if isinstance(files, Mapping)
        else _coco_results(files)
        for name, files in results_files.items()
    }
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path, "w") as file:
        json.dump(content, file)


def _coco_results(path: str | os.PathLike) -> list[dict[str, Any]]:
    rows = load_json(os.fspath(path), "results file")
    try:
        return [{field: row[field] for field in _FIELDS} for row in rows]
    except (KeyError, TypeError) as error:
        raise DataError(f"{os.fspath(path)}: no COCO results: {error!r}") from error
