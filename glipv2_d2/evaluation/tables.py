"""The tables of an evaluation: what is printed is also written, as Markdown and as JSON."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tabulate import tabulate

from ..files import whole_file

__all__ = ["Table", "metric_tables", "write_results"]


class Table(NamedTuple):
    """Rows under headings; `str` is its form for the console and the log.

    Attributes:
        title: a line above it.
        columns: headings.
        rows: cells; floats are shown with `digits` decimals, NaN as "-".
        digits: see `rows`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    digits: int = 2

    def __str__(self) -> str:
        aligned = ["left" if text else "right" for text in self._holds_text()] or None
        cells = tabulate(self._cells(), self.columns, disable_numparse=True, colalign=aligned)
        return f"{self.title}:\n{cells}"

    def markdown(self) -> str:
        """Return the table in Markdown, without its title."""
        marks = ["---" if text else "---:" for text in self._holds_text()]
        rows = (self.columns, marks, *self._cells())
        return "".join(
            "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n" for row in rows
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the table for JSON, with all decimals."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [[_without_nan(cell) for cell in row] for row in self.rows],
        }

    def _holds_text(self) -> list[bool]:
        """Whether a column has text only, for each column."""
        return [all(isinstance(c, str) for c in column) for column in zip(*self.rows)]

    def _cells(self) -> list[list[str]]:
        return [[self._cell(value) for value in row] for row in self.rows]

    def _cell(self, value: Any) -> str:
        if not isinstance(value, float):  # NumPy's float64 is one
            return str(value)
        return "-" if math.isnan(value) else f"{value:.{self.digits}f}"


def metric_tables(title: str, metrics: Mapping[str, float]) -> list[Table]:
    """Make the tables of a task: one row of all metrics, and a row for each class.

    Args:
        title: of the first table.
        metrics: name -> value; "AP-person" is the AP of the class "person", as in Detectron2.
    """
    overall = {name: value for name, value in metrics.items() if "-" not in name}
    by_class: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        metric, _, class_name = name.partition("-")
        if class_name:
            by_class.setdefault(class_name, {})[metric] = value
    tables = []
    if overall:
        tables.append(Table(title, list(overall), [[*map(float, overall.values())]]))
    if by_class:
        columns = list(dict.fromkeys(metric for row in by_class.values() for metric in row))
        rows = [
            [class_name, *(float(row.get(metric, math.nan)) for metric in columns)]
            for class_name, row in by_class.items()
        ]
        tables.append(Table(f"{title}, by class", ["class", *columns], rows))
    return tables


def write_results(
    folder: str, iterations: int | None, results: Mapping[str, Any], tables: Sequence[Table]
) -> None:
    """Write what an evaluation found into the output folder of a run.

    `last_results.json` has the numbers of this evaluation. `results.json` and `results.md`
    have the tables of all evaluations of the run, the last one first.

    Args:
        folder: made where it is not there.
        iterations: that the training has done; None without a training. What the files have after
            more of them is of a run that was taken up again at an earlier checkpoint.
        results: numbers by test set, task and metric.
        tables: of all test sets.
    """
    os.makedirs(folder, exist_ok=True)
    mine = {
        "iterations": iterations,
        "tables": [table.as_dict() for table in tables],
        "markdown": "".join(f"### {table.title}\n\n{table.markdown()}\n" for table in tables),
    }
    path = os.path.join(folder, "results.json")
    kept = [entry for entry in _earlier(path) if _is_before(entry["iterations"], iterations)]
    history = [mine, *kept]
    page = "".join(f"## {_heading(e['iterations'])}\n\n{e['markdown']}" for e in history)
    for name, text in (
        ("last_results.json", json.dumps(results, indent=2)),
        ("results.json", json.dumps(history, indent=1)),
        ("results.md", f"# Results\n\n{page}"),
    ):
        with whole_file(os.path.join(folder, name), "wb") as file:
            file.write(text.encode("utf-8"))


def _earlier(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            history = json.load(file)
        return [entry for entry in history if {"iterations", "markdown"} <= entry.keys()]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, AttributeError) as error:
        log = logging.getLogger(__name__)
        log.warning("%s is begun anew, as it cannot be read: %s", path, error)
        return []


def _is_before(earlier: int | None, iterations: int | None) -> bool:
    if earlier is None or iterations is None:
        return earlier is not iterations
    return earlier < iterations


def _heading(iterations: int | None) -> str:
    return "Evaluation without training" if iterations is None else f"After {iterations} iterations"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, tuple):
        return [_without_nan(part) for part in value]
    return value if isinstance(value, (int, str, type(None))) else str(value)
