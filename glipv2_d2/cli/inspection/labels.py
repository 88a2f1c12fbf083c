"""Files that show the labels of captions: histograms, tables of phrases, what changed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...data.caption_boxes import LabelChanges, box_scores, phrase_boxes
from ...files import whole_file
from ...language.spans import phrase_key
from ..charts import draw_histograms
from .drawing import contact_sheet, draw_record

Record = dict[str, Any]


def write_labels(records: Sequence[Record], folder: Path) -> list[str]:
    """Write `phrases.csv` and `labels.png`, two histograms; returns what to say of them."""
    rows = [
        (e.phrase, e.captions, e.boxes, "" if e.score is None else f"{e.score:.3f}")
        for e in phrase_boxes(records)
    ]
    _write_csv(folder / "phrases.csv", ("phrase", "captions", "boxes", "mean score"), rows)
    counts = [len({phrase_key(a["spans"]) for a in r.get("annotations", ())}) for r in records]
    histograms: dict[str, Sequence[float]] = {"phrases with boxes in a caption": counts}
    if scores := box_scores(records):
        histograms = {"score of a box": scores, **histograms}
    draw_histograms(folder / "labels.png", histograms)
    return ["phrases with their boxes: phrases.csv; histograms: labels.png"]


def write_changes(changes: LabelChanges, folder: Path, most: int) -> list[str]:
    """Write `changes.csv`, and `changes.png` of the captions that changed most, before on the left;
    returns what to say of them.

    Args:
        most: so many captions are drawn.
    """
    kinds = ("kept", "moved", "gained", "lost")
    most_changed = sorted(
        changes.phrases.items(), key=lambda item: (item[1]["kept"] - item[1].total(), item[0])
    )
    rows = [(phrase, *(counts[kind] for kind in kinds)) for phrase, counts in most_changed]
    _write_csv(folder / "changes.csv", ("phrase", *kinds), rows)
    changed = [pair for pair in changes.pairs[:most] if pair[2]]
    if not changed:
        return ["changes by phrase: changes.csv"]
    pictures = [draw_record(record) for before, after, _ in changed for record in (before, after)]
    contact_sheet(pictures, columns=2).save(folder / "changes.png")
    return ["changes by phrase: changes.csv; before and after: changes.png"]


def _write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
