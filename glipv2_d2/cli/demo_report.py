"""What the demo leaves for people: the loss curve and the one-page summary."""

import json
import math
from pathlib import Path

_TERMS = (
    "total_loss", "loss_token", "loss_box", "loss_centerness", "loss_contrast", "loss_mlm",
)  # fmt: skip


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
    for term in _TERMS:
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


def write_summary(metrics: dict, notes: dict, pictures: list[str], target: Path) -> str:
    """Write the summary as Markdown.

    Args:
        metrics: what metrics.json holds.
        notes: the header of the weights file.
        pictures: the pictures of detections, relative to `pictures/`.
        target: the file to write; pictures are linked relative to it.

    Returns:
        The table of results alone, for the console.
    """
    table = _results_table(metrics)
    shown = "\n".join(f"![{name}](pictures/{name})" for name in pictures)
    trained = metrics["train"]
    before, after = (trained["val"][k]["bbox"]["AP50"] for k in ("before", "after"))
    caption = (target.parent / "pictures" / "caption" / "caption.txt").read_text().strip()
    drawn = next((target.parent / "pictures" / "caption").glob("*.jpg"))
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

## Use

Truth (left) and what the shipped model finds (right) on `novel`; green is right, red is wrong.
Pictures show the best phrase of each object alone; the AP counts all that the model says.

![contact sheet](contact_sheet.jpg)

{shown}

A caption instead of a list: *{caption}*

![caption](pictures/caption/{drawn.name})

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


def _results_table(metrics: dict) -> str:
    val, novel = metrics["val"], metrics["novel"]
    kinds = {"bbox": "AP50", "segm": "AP50 of masks"}
    kinds = {kind: label for kind, label in kinds.items() if kind in val}
    rows = [("shipped weights on val", val), ("shipped weights on novel", novel)]
    lines = [
        f"| | {' | '.join(kinds.values())} | images |",
        f"|---|{'---:|' * len(kinds)}---:|",
    ]
    for name, result in rows:
        numbers = " | ".join(f"{result[kind]['AP50']:.1f}" for kind in kinds)
        lines.append(f"| {name} | {numbers} | {result['images']} |")
    for name, oracle in novel["oracle"].items():
        label = f"{name.replace('_', '-')} oracle on novel"
        others = " |" * (len(kinds) - 1)
        lines.append(f"| {label} | {oracle['AP50']:.1f} |{others} {novel['images']} |")
    return "\n".join(lines)
