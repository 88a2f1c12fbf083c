"""The tables and files that a sweep leaves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...evaluation.odinw import (
    odinw_csv,
    odinw_table,
    summarize_odinw,
    write_evalai,
)
from .plan import Run
from .running import coco_results, odinw_runs


def write_reports(
    results: Mapping[Run, Mapping[str, Any]], output: Path, suite: int, model: str
) -> str:
    """Write `table.md`, `table.csv` and an `evalai_*.json` for each number of shots.

    Args:
        results: of the finished runs.
        output: folder of the sweep.
        suite: 13 or 35.
        model: how the lines of the table are headed.

    Returns:
        The Markdown table. Without all data sets of the suite there is no average.
    """
    runs = [entry for run, result in results.items() for entry in odinw_runs(run, result)]
    lines, heading = summarize_odinw(runs, suite), {"Model": model}
    table = odinw_table(lines, suite, heading).markdown()
    (output / "table.md").write_text(table)
    (output / "table.csv").write_text(odinw_csv(lines, suite, heading))
    files: dict[str, dict[str, Any]] = defaultdict(dict)
    for run in results:
        path = coco_results(run, output)
        if run.seed is None:
            files[run.setting][run.dataset] = path
        else:
            files[f"{run.shots}_shot"].setdefault(run.dataset, {})[run.seed] = path
    for setting, of in files.items():
        write_evalai(of, str(output / f"evalai_{setting}.json"))
    return table


def missing_report(missing: Mapping[str, str], runs: Sequence[Run]) -> str:
    """What is not on the disk, a line for each data set with the first file that is not there."""
    first: dict[str, tuple[str, int]] = {}
    for run in runs:
        absent = [name for name in run.needed() if name in missing]
        if absent:
            first.setdefault(run.dataset, (absent[0], len(absent)))
    return "\n".join(
        f"  {dataset}: {name}: there is no {missing[name]}" for dataset, (name, _) in first.items()
    )
