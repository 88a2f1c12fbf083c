"""The report of a fine-tuning: `report.md`, `report.json`, and the pictures that they name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...evaluation.coco_matches import Matches, confusion_matrix, match_detections
from ...evaluation.coco_truth import load_coco_truth
from ...evaluation.tables import Table
from ...files import whole_file
from ...language.class_names import class_labels
from ..demo_report import plain_numbers
from .curves import draw_confusion, draw_learning, draw_precision, read_metrics
from .own_data import OwnData
from .pictures import draw_examples
from .plan import Setting, lines
from .result import RULE, Point
from .running import predictions_of, write_json

MOST_CONFUSIONS = 10


class Story(NamedTuple):
    """What a fine-tuning came to.

    Attributes:
        folder: of the run.
        command: that made it.
        mode: of `MODES`.
        data: what it was trained on.
        val: name of the validation set.
        plan: the settings.
        before, after: results by test set, of the base and of what came out.
        points: by alpha, the base (0) and the tuned model (1) among them.
        alpha: of the result.
        finished: whether the training came to its end.
        use: the command that uses the result, without the threshold.
        result: file of the result.
        seconds: of the whole run, as far as it is known.
    """

    folder: Path
    command: str
    mode: str
    data: OwnData
    val: str
    plan: Sequence[Setting]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    points: Mapping[float, Point]
    alpha: float
    finished: bool
    use: str
    result: str
    seconds: float


def write_report(story: Story) -> str:
    """Write everything; returns the lines for the console."""
    chosen = "after" if story.alpha == 1 else f"merged/{story.alpha:g}"
    results = predictions_of(story.folder, chosen)
    truth = load_coco_truth(MetadataCatalog.get(story.val).json_file)
    matches = match_detections(truth, results)
    everything = matches.curve()
    threshold, precision, recall = everything.best()
    drawn = 0.5 if math.isnan(threshold) else threshold
    classes = story.data.classes
    matrix = confusion_matrix(truth, results, drawn)
    # A class without an object has no recall.
    measured = [(i, name) for i, name in enumerate(classes, 1) if matches.of_category[i]]
    curves = {name: matches.curve(i) for i, name in measured}
    draw_precision(curves, everything, story.folder / "precision_recall.png")
    draw_confusion(matrix, classes, story.folder / "confusion.png")
    metrics = read_metrics(story.folder / "training" / "metrics.json")
    draw_learning(metrics, _aps(story.points[0.0], story.val), story.folder / "learning.png")
    image_ids = [record["image_id"] for record in DatasetCatalog.get(story.val)]
    errors = matches.errors(image_ids, drawn)
    draw_examples(story.val, results, errors, drawn, story.folder)
    use = f"{story.use} --threshold {math.floor(100 * drawn) / 100:.2f} --output found"
    summary = _summary(story, threshold, precision, recall)
    tables = {
        "classes": _class_table(story, matches),
        "confusions": _confusions(matrix, classes),
        "kept": _kept_table(story),
    }
    page = _page(story, summary, tables, use)
    with whole_file(story.folder / "report.md", "w") as file:
        file.write(page)
    write_json(story.folder / "report.json", _numbers(story, tables, threshold, use))
    left_out = [f"left out, or doubtful: {note}" for note in story.data.notes]
    return "\n".join([*summary, *left_out, "", f"use it: {use}"])


def _aps(point: Point, val: str) -> dict[str, float]:
    return {val: point.own, **point.old}


def _summary(story: Story, threshold: float, precision: float, recall: float) -> list[str]:
    before, tuned, result = (story.points[a] for a in (0.0, 1.0, story.alpha))
    lines = [
        f"AP on your validation set ({len(story.data.val)} images): {_number(before.own)} before, "
        f"{_number(result.own)} after. Measured on: {story.data.measured}."
    ]
    if not story.finished:
        lines.append("The training was stopped before its end: the same command goes on with it.")
    if result.own < before.own:
        lines.append(
            "The base was better than what came out: use it as it is, or train longer or in "
            "another mode (--mode prompt, --mode head)."
        )
    for name, value in result.old.items():
        merged = "" if story.alpha == 1 else f" ({_number(tuned.old[name])} before merging)"
        lines.append(
            f"AP on the old classes, {name}: {_number(before.old[name])} before, "
            f"{_number(value)} after{merged}."
        )
    if story.alpha < 1:
        lines.append(
            f"The result has {story.alpha:.0%} of what was learned and {1 - story.alpha:.0%} of "
            f"the base: {RULE}."
        )
    if math.isnan(threshold):
        lines.append("It finds nothing that is right at IoU 0.5.")
    else:
        lines.append(
            f"At a score of {threshold:.2f} or more it is right with {precision:.0%} of what it "
            f"finds, and finds {recall:.0%} of the objects (IoU 0.5; the best F1)."
        )
    return lines


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _class_table(story: Story, matches: Matches) -> Table:
    data, rows = story.data, []
    trained, measured = (data.boxes_by_class(part) for part in ("train", "val"))
    results = [story.before, story.after]
    for i, name in enumerate(class_labels(MetadataCatalog.get(story.val))):
        key = f"AP-{name}" if len(data.classes) > 1 else "AP"
        aps = [r[story.val].get("bbox", {}).get(key) for r in results]
        score, precision, recall = matches.curve(i + 1).best()
        aps = [math.nan if ap is None else float(ap) for ap in aps]
        numbers = (score, 100 * precision, 100 * recall)
        rows.append([name, trained[i], measured[i], *aps, *numbers])
    columns = [
        "class", "training boxes", "validation boxes", "AP before", "AP after", "score of best F1",
        "precision %", "recall %",
    ]  # fmt: skip
    return Table("Classes", columns, rows)


def _confusions(matrix: np.ndarray, classes: Sequence[str]) -> Table:
    """The most frequent ones between two classes."""
    found = [
        (int(count), classes[row], classes[column])
        for (row, column), count in np.ndenumerate(matrix[:-1, :-1])
        if row != column and count
    ]
    rows = sorted(found, reverse=True)[:MOST_CONFUSIONS]
    return Table("Confusions", ["how often", "true", "found"], rows)


def _kept_table(story: Story) -> Table:
    names = [story.val, *story.points[1.0].old]
    rows = [
        [f"{alpha:g}", *_aps(point, story.val).values(), "result" if alpha == story.alpha else ""]
        for alpha, point in sorted(story.points.items())
    ]
    return Table("AP", ["alpha", *names, ""], rows)


def _page(story: Story, summary: Sequence[str], tables: Mapping[str, Table], use: str) -> str:
    files = ", ".join(f"`{story.folder / name}`" for name in ("config.py", "training/log.txt"))
    parts = [
        f"# Fine-tuning, mode {story.mode}",
        "\n".join(f"- {line}" for line in summary),
        "## Use it",
        f"```bash\n{use.replace('IMAGE_OR_FOLDER', 'photo.jpg')}\n```",
        f"The result is `{story.result}`.",
        "## Classes",
        tables["classes"].markdown(),
        "![precision and recall](precision_recall.png)",
        "## Errors",
        "![which class was found for which](confusion.png)",
    ]
    if tables["confusions"].rows:
        parts.append(tables["confusions"].markdown())
    parts += [
        "Images with the fewest errors; truth on the left, predictions on the right, green where "
        "they are right:",
        "![best](best.png)",
        "Images with the most errors:",
        "![worst](worst.png)",
        "## Learning",
        "![loss and AP over the iterations](learning.png)",
    ]
    if len(story.points) > 2 or story.points[1.0].old:
        about = (
            f"AP of weights between the base (alpha 0) and the tuned model (alpha 1). The result: "
            f"{RULE}."
        )
        parts += ["## What the base knew", about, tables["kept"].markdown()]
    parts += ["## Data", "![training images](data.png)"]
    parts += ["\n".join(f"- {note}" for note in story.data.notes) or "Nothing was left out."]
    parts += [
        "## Plan",
        "```text\n" + "\n".join(lines(story.plan)) + "\n```",
        f"Made by `{story.command}` in {story.seconds / 60:.0f} minutes; {files}.",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _numbers(
    story: Story, tables: Mapping[str, Table], threshold: float, use: str
) -> dict[str, Any]:
    return plain_numbers({
        "mode": story.mode,
        "command": story.command,
        "finished": story.finished,
        "result": story.result,
        "use": use,
        "images": {"train": len(story.data.train), "val": len(story.data.val)},
        "measured": story.data.measured,
        "notes": story.data.notes,
        "before": story.before,
        "after": story.after,
        "alpha": story.alpha,
        "points": [point._asdict() for _, point in sorted(story.points.items())],
        "threshold": threshold,
        "tables": {name: table.as_dict() for name, table in tables.items()},
        "plan": [setting._asdict() for setting in story.plan],
        "seconds": story.seconds,
    })  # fmt: skip
