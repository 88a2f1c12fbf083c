"""What the demo leaves for people: the loss curve and the one-page summary."""

import json
import math
from pathlib import Path
from typing import Any

from .demo_pictures import Picture

# (row, test set by the end of its name, path of the number in its results)
_NUMBERS = (
    ("boxes, AP50", "", ("bbox", "AP50")),
    ("masks, AP50", "", ("segm", "AP50")),
    ("boxes, AP50 of a color-blind oracle", "", ("oracle", "color_blind", "AP50")),
    ("boxes, AP50 of a shape-blind oracle", "", ("oracle", "shape_blind", "AP50")),
    ("answers, accuracy", "_vqa_grounding", ("vqa", "accuracy")),
    *((f"answers, accuracy: {kind}", "_vqa_grounding", ("vqa", f"accuracy-question_type:{kind}"))
      for kind in ("color", "shape", "count", "yes/no", "relation")),
    ("answers, accuracy by the words alone", "_vqa_grounding", ("wording_oracle", "all")),
    ("box of the answer, R@1", "_vqa_grounding", ("vqa", "answer_R@1")),
    ("captions, CIDEr", "_grounded_caption", ("caption", "CIDEr")),
    ("captions, colored shapes in each", "_grounded_caption", ("scene_captions", "entities")),
    ("captions whose colored shapes are all there", "_grounded_caption",
     ("scene_captions", "true_captions")),
    ("box of a colored shape, R@1", "_grounded_caption", ("scene_captions", "entity_R@1")),
)  # fmt: skip
_COUNTS = (("images", ""), ("questions", "_vqa_grounding"), ("captions", "_grounded_caption"))


def draw_loss(metrics: Path, target: Path, before: float, after: float) -> list[dict]:
    """Draw the loss and its terms over the iterations of a training run.

    Args:
        metrics: metrics.json of the run (one JSON object a line).
        target: picture to write.
        before, after: AP50 on val, for the title.

    Returns:
        The entries that have a loss.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    entries = [line for line in lines if "total_loss" in line]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    iterations = [entry["iteration"] + 1 for entry in entries]
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    for term in ["total_loss", *(name for name in names if name.startswith("loss_"))]:
        if all(term in entry for entry in entries):
            width = 2.5 if term == "total_loss" else 1.2
            axes.plot(iterations, [e[term] for e in entries], label=term, linewidth=width)
    axes.set(xlabel="iteration", ylabel="loss (median of the last 20)", ylim=(0, None))
    axes.set_title(f"from scratch: val AP50 {before:.1f} before, {after:.1f} after")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return entries


def loss_summary(entries: list[dict]) -> dict[str, float]:
    """First and last total loss of a run."""
    if not entries:
        return {}
    return {"first": entries[0]["total_loss"], "last": entries[-1]["total_loss"]}


def plain_numbers(value):
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_summary(
    metrics: dict, notes: dict, pictures: dict[str, list[Picture]], target: Path
) -> str:
    """Write the summary as Markdown.

    Args:
        metrics: what metrics.json holds.
        notes: the header of the weights file.
        pictures: see `show_pictures`; in `pictures/`.
        target: the file to write; pictures are linked relative to it.

    Returns:
        The table of results alone, for the console.
    """
    table = _results_table(metrics["tests"])
    trained = metrics["train"]
    before, after = (trained["val"][k]["bbox"]["AP50"] for k in ("before", "after"))
    made = "\n".join(f"- {key}: `{value}`" for key, value in sorted(notes.items()) if value)
    short = " A short form: fewer test images and iterations." if metrics["quick"] else ""
    seconds = ", ".join(f"{key} {value:.0f}" for key, value in metrics["seconds"].items())
    text = f"""# The demo

A small {metrics["model"]} on rendered scenes: 8 colors x 8 shapes on photographs, 12 of the 64
pairs never shown in training. Tests ask for all 64 names.{short}

{table}

`val` has the 52 pairs of training, `novel` the 12 others among distractors that share their color
or shape. An oracle has perfect boxes, but sees only the shapes (color-blind) or only the colors
(shape-blind); what exceeds the better one is composition: words combined as never before.
{_TEXTS if "questions" in pictures else ""}
## Use

Truth (left) and what the shipped model finds (right) on `novel`; green is right, red is wrong.
Pictures show the best phrase of each object alone; the AP counts all that the model says.

![contact sheet](contact_sheet.jpg)

{_linked(pictures["names"])}

A caption instead of a list:

{_linked(pictures["caption"])}
{_text_pictures(pictures)}
How the shipped weights were made:

{made}

## Train

{trained["config"]} from scratch for {trained["iterations"]} iterations of {trained["batch_size"]}
images through `glip train`: AP50 on {trained["images"]} images of `val`
{before:.1f} before, {after:.1f} after. (The whole training: {metrics["made"]}.)

![loss](loss.png)

Seconds: {seconds}. Machine: {metrics["machine"]}.
"""
    target.write_text(text, encoding="utf-8")
    return table


_TEXTS = """
Questions are answered by the words alone as most of those in training that begin with the same
words. R@1: the best box overlaps a true one, IoU >= 0.5.
"""


def _text_pictures(pictures: dict[str, list[Picture]]) -> str:
    """Questions and captions, in the colors of the boxes; nothing for a model without."""
    if "questions" not in pictures:
        return ""
    return f"""
## Ask and caption

Questions, a type each, as `glip ask` draws them: the words and the answer have the colors of their
boxes.

{_linked(pictures["questions"])}

Captions, as `glip caption` draws them:

{_linked(pictures["captions"])}
"""


def _linked(pictures: list[Picture]) -> str:
    return "\n\n".join(f"*{text}*\n\n![{text}](pictures/{path})" for path, text in pictures)


def _results_table(tests: dict[str, dict]) -> str:
    lines = ["| shipped weights | `val` | `novel` |", "|---|---:|---:|"]
    for label, kind, path in _NUMBERS:
        cells = [_number(tests.get(split + kind, {}), path) for split in ("val", "novel")]
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    for label, kind in _COUNTS:
        if results := [tests[s + kind] for s in ("val", "novel") if s + kind in tests]:
            cells = [_count(result["records"], result["of"]) for result in results]
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(results: dict, path: tuple[str, ...]) -> str:
    value: Any = results
    for key in path:
        if key not in value:
            return ""
        value = value[key]
    return f"{value:.1f}"


def _count(records: int, of: int) -> str:
    return f"{records}" if records == of else f"the first {records} of {of}"
