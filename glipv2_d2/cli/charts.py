"""Line charts and histograms as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ..files import whole_file


class Point(NamedTuple):
    """A point of a line; `deviation` is drawn as a bar above and below it."""

    x: float
    y: float
    deviation: float | None = None


def draw_lines(
    path: str | Path,
    lines: Mapping[str, Sequence[Point]],
    *,
    x: str,
    y: str,
    title: str = "",
    ticks: Mapping[int, str] | None = None,
) -> None:
    """Draw lines of one unit over another into a PNG.

    Args:
        lines: name for the legend -> points in the order of `x`.
        x, y: what the axes are, with units.
        ticks: position on the axis of `x` -> what is written there; by default numbers.
    """
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    for name, points in lines.items():
        bars = [point.deviation or 0.0 for point in points]
        axes.errorbar(
            [point.x for point in points], [point.y for point in points],
            yerr=bars if any(bars) else None, label=name, marker="o", markersize=4, capsize=3,
        )  # fmt: skip
    axes.set(xlabel=x, ylabel=y, title=title)
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def draw_histograms(path: str | Path, values: Mapping[str, Sequence[float]]) -> None:
    """Draw a histogram of each list of values, side by side, into a PNG.

    Args:
        values: what is counted -> the values; whole numbers have a bar each, scores from 0 to 1
            are counted in twentieths.
    """
    figure = Figure(figsize=(5.5 * len(values), 4))
    for axes, (name, numbers) in zip(
        figure.subplots(1, len(values), squeeze=False)[0], values.items()
    ):
        whole = all(number == int(number) for number in numbers)
        edges = np.arange(max(numbers) + 2) - 0.5 if whole else np.linspace(0, 1, 21)
        axes.hist(numbers, edges, rwidth=0.9)
        axes.set(xlabel=name, ylabel="number")
        axes.yaxis.get_major_locator().set_params(integer=True)
        if whole:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    _save(figure, path)


def _save(figure: Figure, path: str | Path) -> None:
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
