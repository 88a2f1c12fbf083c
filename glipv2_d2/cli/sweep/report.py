"""The tables and files that a sweep leaves."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import ConfigError
from ...evaluation.odinw import write_evalai
from ...evaluation.tables import Table
from ...evaluation.transfer import (
    TransferLine,
    TransferRun,
    averages_table,
    scores_csv,
    shots_name,
    summarize,
    transfer_table,
)
from ...files import whole_file
from ..charts import Point, draw_lines
from .plan import ZERO_SHOT, Run
from .running import coco_results

Results = Mapping[Run, Mapping[str, Any]]


class Heading(NamedTuple):
    """What the tables are of.

    Attributes:
        title: e.g. `"ODinW-13"`.
        columns: data set -> heading of its column.
        model: how the lines of the table begin.
        metric: of the COCO evaluator, `"AP"` or `"AP50"`.
        splits: those that are shown, `"test"`, `"val"` and the old data sets.
    """

    title: str
    columns: Mapping[str, str]
    model: str
    metric: str
    splits: Sequence[str]


def write_reports(results: Results, heading: Heading, output: Path) -> str:
    """Write the tables of all settings and of their averages, and a picture of the latter.

    Args:
        results: of the finished runs.
        heading: of the tables.
        output: folder of the sweep.

    Returns:
        The Markdown of both tables. Without all data sets and seeds there is no average.
    """
    lines = _lines(results, heading)
    tables = [
        transfer_table(heading.title, of, heading.columns, {"Model": heading.model, "Tune": mode})
        for mode, of in lines.items()
    ]
    table = tables[0]._replace(rows=[row for each in tables for row in each.rows])
    averages = averages_table(f"{heading.title}, average", _with_zero_shot(lines))
    _write_table(table, output / "table")
    _write_table(averages, output / "averages")
    _write(output / "runs.csv", _runs_csv(results, heading))
    _draw(averages, heading, output / "averages.png")
    return f"{table.markdown()}\n{averages.markdown()}"


def _lines(results: Results, heading: Heading) -> dict[str, list[TransferLine]]:
    """Mode -> lines of its table; zero-shot first."""
    runs: dict[str, list[TransferRun]] = defaultdict(list)
    for run, result in results.items():
        for mode, of in _by_mode(run, result):
            for split in heading.splits:
                value = metric_of(of, split, heading.metric)
                runs[mode].append(TransferRun(run.dataset, split, value, run.shots, run.seed))
    order = sorted(runs, key=lambda mode: mode != ZERO_SHOT)
    return {mode: summarize(runs[mode], list(heading.columns), heading.title) for mode in order}


def _by_mode(run: Run, result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What a run has tuned, and its weights between that and the base."""
    merged = result.get("merged", {}).items()
    return [(run.mode, result), *((f"{run.mode}, alpha {alpha}", of) for alpha, of in merged)]


def metric_of(result: Mapping[str, Any], split: str, metric: str) -> float:
    """A metric of a split of a run.

    Raises:
        ConfigError: the evaluator gave no such metric.
    """
    found = result[split].get("bbox", {})
    if metric not in found:
        known = ", ".join(name for name in found if "-" not in name) or "nothing of boxes"
        raise ConfigError(f"{split} was not evaluated with the metric {metric}; there is: {known}")
    return float(found[metric])


def _with_zero_shot(lines: Mapping[str, list[TransferLine]]) -> dict[str, list[TransferLine]]:
    """The model that nothing was tuned of is where the line of every mode begins."""
    first = list(lines.get(ZERO_SHOT, ()))
    tuned = {mode: [*first, *of] for mode, of in lines.items() if mode != ZERO_SHOT}
    return tuned or dict(lines)


def _write_table(table: Table, path: Path) -> None:
    _write(path.with_suffix(".md"), table.markdown())
    _write(path.with_suffix(".csv"), scores_csv(table))


def _write(path: Path, text: str) -> None:
    with whole_file(path, "w") as file:
        file.write(text)


def _runs_csv(results: Results, heading: Heading) -> str:
    """A line for each run and alpha: setting, metric on each split, seconds of the run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "tune", "shots", "seed", *heading.splits, "seconds"])
    for run, result in results.items():
        setting = [shots_name(run.shots), "" if run.seed is None else run.seed]
        for mode, of in _by_mode(run, result):
            values = [metric_of(of, split, heading.metric) for split in heading.splits]
            writer.writerow([run.dataset, mode, *setting, *values, result["seconds"]])
    return text.getvalue()


def _draw(averages: Table, heading: Heading, path: Path) -> None:
    """Figure 3 of GLIPv2: the average against the number of shots, a line for each mode."""
    ticks = dict(enumerate(averages.columns[2:]))
    lines = {}
    for mode, split, *scores in averages.rows:
        points = [Point(x, *score) for x, score in enumerate(scores) if not np.isnan(score.mean)]
        if points:
            name = f"{heading.model}, {mode}" + ("" if split == "test" else f", on {split}")
            lines[name] = points
    if lines:
        axis = f"average {heading.metric} over {len(heading.columns)} data sets"
        draw_lines(path, lines, x="images of each class", y=axis, title=heading.title, ticks=ticks)


def write_submissions(results: Results, output: Path) -> None:
    """Write an `evalai_*.json` of ODinW for each mode and number of shots."""
    files: dict[str, dict[str, Any]] = defaultdict(dict)
    for run in results:
        path = coco_results(run, output)
        if run.seed is None:
            files[run.setting][run.dataset] = path
        else:
            setting = run.setting.removesuffix(f"_seed{run.seed}")
            files[setting].setdefault(run.dataset, {})[run.seed] = path
    for setting, of in files.items():
        write_evalai(of, str(output / f"evalai_{setting}.json"))


def missing_report(missing: Mapping[str, str], runs: Iterable[Run]) -> str:
    """What is not on the disk, a line for each data set with the first file that is not there."""
    first: dict[str, str] = {}
    for run in runs:
        for name in run.needed():
            if name in missing:
                first.setdefault(run.dataset, f"{name}: there is no {missing[name]}")
    return "\n".join(f"  {dataset}: {what}" for dataset, what in first.items())
