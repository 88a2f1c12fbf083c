"""Line charts as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
