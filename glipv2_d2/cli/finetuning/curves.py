"""Curves of a fine-tuning as pictures: loss and AP over the iterations, precision over recall."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...evaluation.coco_matches import Curve
from ...files import whole_file

MOST_CLASSES = 12


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=110)


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (iterations done, value) of a run's `metrics.json`; empty where there is none."""
    series: dict[str, list[tuple[int, float]]] = {}
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in text.splitlines():
        entry = json.loads(line)
        iteration = entry.pop("iteration")
        for name, value in entry.items():
            # Losses are those of the iteration, evaluations of the iterations that are done.
            series.setdefault(name, []).append((iteration + ("/" not in name), value))
    return series


def draw_learning(
    metrics: Mapping[str, Sequence[tuple[int, float]]],
    before: Mapping[str, float],
    path: Path,
) -> None:
    """Draw the loss, and the AP of each test set.

    Args:
        metrics: see `read_metrics`.
        before: test set -> AP before the training.
        path: of the picture.
    """
    figure = Figure(figsize=(8, 6))
    upper, lower = figure.subplots(2, 1, sharex=True)
    losses = metrics.get("total_loss", [])
    # The marker shows a loss that is the only one, of a run below 20 iterations.
    upper.plot([i for i, _ in losses], [loss for _, loss in losses], ".-", color="tab:gray")
    top = max((loss for _, loss in losses), default=1.0)
    upper.set(ylabel="loss (median of 20)", ylim=(0, 1.1 * top))
    for name, value in before.items():
        alone = metrics.get("bbox/AP", []) if len(before) == 1 else []
        points = [(0, value), *metrics.get(f"{name}/bbox/AP", alone)]
        lower.plot(*zip(*points), marker="o", markersize=4, label=name)
    lower.set(xlabel="iteration", ylabel="AP", ylim=(0, 102))
    lower.legend()
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    save(figure, path)


def draw_precision(curves: Mapping[str, Curve], all_classes: Curve, path: Path) -> None:
    """Draw precision over recall at IoU 0.5 of the classes, and of all detections.

    Of many classes those are drawn whose curves end lowest: where there is most to gain.
    """
    order = sorted(curves, key=lambda name: float(curves[name].recall.max(initial=0)))
    figure = Figure(figsize=(7, 5.5))
    axes = figure.subplots()
    for name in order[:MOST_CLASSES]:
        axes.plot(*_falling(curves[name]), label=name, linewidth=1.2)
    axes.plot(*_falling(all_classes), label="all", color="black", linewidth=2.5)
    shown = f", {MOST_CLASSES} of {len(order)} classes" if len(order) > MOST_CLASSES else ""
    axes.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"IoU 0.5{shown}"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)


def _falling(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Recall from 0 on, and precision as COCO has it: the best of this or a higher recall."""
    precision = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return np.append(0, curve.recall), np.append(precision[:1], precision)


def draw_confusion(matrix: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draw which class was found for objects of which.

    Args:
        matrix: of `confusion_matrix`.
        names: of the classes; of many those are drawn that take part in most errors.
        path: of the picture.
    """
    errors = matrix - np.diag(np.diag(matrix))
    worst = np.argsort(-(errors.sum(0) + errors.sum(1))[:-1], kind="stable")[:MOST_CLASSES]
    rows = [*sorted(worst), len(names)]
    shown = matrix[np.ix_(rows, rows)]
    found = [*(names[i] for i in rows[:-1]), "not found"]
    true = [*(names[i] for i in rows[:-1]), "nothing there"]
    size = 2.5 + 0.55 * len(rows)
    figure = Figure(figsize=(size, size))
    axes = figure.subplots()
    shares = shown / np.maximum(shown.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(shown):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(found)), found, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(true)), true, fontsize=8)
    axes.set(xlabel="found", ylabel="true")
    save(figure, path)
