"""The results as a JSON file and as Markdown tables; the tables are made from the JSON alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

DYCONV_PARTS = ("offsets", "mid", "low", "high")
STAGE_ORDER = (
    "Swin", "FPN", "text", "fusion", "text layers", "DyConv", "head", "masks", "post-processing",
)  # fmt: skip


def write_report(results: dict, folder: Path) -> None:
    """`benchmark.json` and `benchmark.md` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmark.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (folder / "benchmark.md").write_text(markdown(results), encoding="utf-8")


def markdown(results: dict) -> str:
    """One section per part, with the commands that measure its rows again."""
    lines = ["# Benchmark", "", *_machine(results), ""]
    for part, (title, remark, columns) in SECTIONS.items():
        rows = results["parts"].get(part)
        if not rows:
            continue
        lines += [f"## {title}", "", remark, "", *table(columns, rows), ""]
        lines += _agreement(rows) + _commands(rows)
    for part, problem in results.get("problems", {}).items():
        lines += [f"Not measured: {part}: {problem}", ""]
    return "\n".join(lines)


def _machine(results: dict) -> list[str]:
    machine, settings = results["machine"], results["settings"]
    processor = machine.get("gpu") or (
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, "
        f"{', '.join(machine['flags']) or 'no AVX2'}"
    )
    peaks = ", ".join(f"{name} {peak:,.0f}" for name, peak in results["peaks"].items())
    weights = settings["weights"] or (
        f"random (seed {settings['seed']}), calibrated for {settings['candidates']} candidates "
        "above the score threshold"
    )
    return [
        f"{processor}; {machine['memory_gb']} GB; PyTorch {machine['torch']}; device "
        f"{machine['device']}; TF32 off. Fastest matrix product in this run, GFLOP/s: "
        f"{peaks or 'not measured'}.",
        "",
        f"Model {settings['config']}, weights {weights}; images {settings['size'][0]}x"
        f"{settings['size'][1]} ({settings['source']}); medians of {settings['repeats']} calls, "
        "sides in turns.",
    ]


def table(columns: str, rows: Sequence[dict]) -> list[str]:
    """A table of the columns that have a value in any row; see SECTIONS."""
    cells = {}
    for column in columns.split(" | "):
        name, _, source = column.partition(" = ")
        key, _, form = (source or name).partition(":")
        column_cells = [_cell(row, key, form) for row in rows]
        if any(column_cells):
            cells[name] = column_cells
    lines = [list(cells), ["---"] * len(cells), *zip(*cells.values())]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _agreement(rows: Sequence[dict]) -> list[str]:
    lines = []
    for row in rows:
        found = row.get("agreement")
        if found:
            lines.append(
                f"- {_case(row)}: largest difference from the official arrangement: logits "
                f"{found['logits']:.1e} (of {found['largest_logit']:.0f}), deltas "
                f"{found['deltas']:.1e}, centerness {found['centerness']:.1e}; "
                f"{found['detections_that_agree']} of {found['detections']} detections agree "
                "(IoU > 0.99, score within 0.001)."
            )
    return [*lines, ""] if lines else []


def _commands(rows: Sequence[dict]) -> list[str]:
    commands = list(dict.fromkeys(row["command"] for row in rows))
    return ["Measured by:", "", "```bash", *commands, "```", ""]


def _case(row: dict) -> str:
    prompt = row.get("prompt") or f"LVIS, {row['chunks']} of {row['chunks_of_vocabulary']} chunks"
    return f"{prompt}, batch {row['batch']}"


def _cell(row: dict, key: str, form: str) -> str:
    if key in _CELLS:
        return _CELLS[key](row)
    value: Any = row
    for part in key.split("."):
        value = value.get(part)
    return "" if value is None else format(value, form)


def _seconds(row: dict) -> str:
    seconds = row.get("seconds")
    if not seconds:
        return ""
    spread = f" ({min(seconds['runs']):.3g}-{max(seconds['runs']):.3g})"
    return f"{seconds['median']:.3g}{spread}"


def _peak(row: dict) -> str:
    if row.get("peak_gb") is None:
        limit = f" {row['limit_gb']:.1f} GiB" if row.get("limit_gb") else " memory"
        return f"does not fit into{limit}"
    return f"{row['peak_gb']:.2f}"


def _stage_sum(row: dict) -> str:
    return f"{sum(row['stages'].get(name, 0.0) for name in STAGE_ORDER):.3g}"


def _stage_columns() -> str:
    columns = ["prompt", "batch", "side = what"]
    for name in STAGE_ORDER:
        columns.append(f"{name} = stages.{name}:.3g")
        if name == "DyConv":
            columns += [f"of it {part} = stages.{part}:.3g" for part in DYCONV_PARTS]
    columns += ["sum", "whole = stages.whole:.3g"]
    return " | ".join([*columns, "whole without timers = whole_without_timers:.3g"])


# What takes more than a format.
_CELLS: dict[str, Callable[[dict], str]] = {
    "chunks of all": lambda row: f"{row['chunks']} of {row['chunks_of_vocabulary']}",
    "compiled": lambda row: f"{median(row['compiled']):.3g}",
    "eager": lambda row: f"{median(row['eager']):.3g}",
    "median": _seconds,
    "operation": lambda row: f"`{row['operation'][:70]}`",
    "peak or limit": _peak,
    "problem": lambda row: "does not fit into memory" if row.get("problem") else "",
    "size": lambda row: "x".join(map(str, row["size"])),
    "sum": _stage_sum,
}
# Part -> title, remark, and columns: "name = key of the row:format", or where both are one "key".
SECTIONS: dict[str, tuple[str, str, str]] = {
    "speed": (
        "Inference",
        "Seconds per call (all images of the batch), median (fastest-slowest). GFLOP: 2 per "
        "multiply-add; matrix products, convolutions and attention by torch's counter, deformable "
        "convolution and embedding_bag by hand. Share: of the fastest matrix product above.",
        "prompt | tokens | batch | side = what | seconds = median | "
        "images/s = images_per_second:.3g | x official = times_official:.2f | "
        "x Grounding DINO = times_gdino:.2f | GFLOP = gflop.total:,.0f | "
        "GFLOP/s = gflop_per_second:,.0f | share = share_of_peak:.0%",
    ),
    "stages": (
        "Stages",
        "Seconds of each stage, medians over the calls; a stage inside another is not counted "
        "twice. What is not called as a module of its own has no number.",
        _stage_columns(),
    ),
    "lvis": (
        "LVIS",
        "Prompts of 40 names, evenly spread over the 1,203. Seconds are measured on the chunks "
        "named; the last column is *calculated* for all of them per image: what is spent per chunk "
        "times their number, and backbone and FPN once (ours) or in every chunk (official).",
        "batch | side = what | chunks = chunks of all | seconds = seconds:.3g | "
        "of it backbone and FPN = backbone_and_fpn:.3g | per chunk = per_chunk:.3g | "
        "x official = times_official:.2f | calculated, all chunks, per image = calculated:.4g",
    ),
    "memory": (
        "Peak memory of inference",
        "GiB above the built model at the peak of one call with a new prompt, each in a process of "
        "its own (CPU: resident set; CUDA: what PyTorch allocated).",
        "prompt | batch | side = what | peak, GiB = peak or limit | weights, GiB = weights_gb:.2f",
    ),
    "train": (
        "Training step",
        "Forward and backward with COCO's 80 names, without optimizer; GiB above the resting model "
        'with its gradients. Checkpointing: "fusion" is what the official config recomputes, '
        '"block" whole blocks.',
        "side | checkpointing | precision | batch | size | seconds = median | "
        "peak, GiB = peak_gb:.2f |  = problem",
    ),
    "losses": (
        "Losses of GLIPv2",
        "Forward and backward with COCO's 80 names, without optimizer; GiB above the resting model "
        "with its gradients.",
        "losses | precision | batch | size | seconds = median | peak, GiB = peak_gb:.2f",
    ),
    "compile": (
        "torch.compile of backbone and neck, dynamic sizes",
        "One image, sizes in this order; new graphs: compiled in the first call of that size.",
        "size | precision | eager, s = eager | compiled, s = compiled | "
        "x eager = times_eager:.2f | first call, s = first_call:.3g | "
        "new graphs = new_graphs | graph breaks in all = graph_breaks | "
        "largest difference of logits = largest_difference:.1e",
    ),
    "agreement": (
        "bf16 and fp16 against float32",
        "Detections of ours in float32 that have a partner in half precision: same class, IoU > "
        "0.9, score within 0.01. Random weights give many candidates with scores close together, "
        "of which rounding picks others; what it costs in AP takes trained weights (--weights, "
        "--image).",
        "precision | prompt | image | float32 | half | agree",
    ),
    "profile": (
        "Where the time goes",
        "The operations of one call that take most of the device's time, of torch.profiler; "
        "profile_trace.json.gz has every call in order, for chrome://tracing or Perfetto.",
        "side | prompt | batch | operation | calls | ms = ms:.3g | share = share:.0%",
    ),
    "captions": (
        "Captions",
        "Seconds per image for a caption of 20 tokens, without the pyramid (its own column). "
        "Cached: the image's side of the tower once, each word once. Recomputed: the tower and the "
        "language backbone anew for each token.",
        "beam | batch | pyramid = seconds.pyramid:.3g | image side = seconds.image side:.3g | "
        "cached = seconds.cached:.3g | of it a token = per_token:.3g | "
        "recomputed = seconds.recomputed:.3g | a token = recomputed_per_token:.3g | "
        "x recomputed = times_recomputed:.1f | same captions = same",
    ),
    "exported": (
        "Exports",
        "Seconds per call (all images of the batch), median (fastest-slowest), with the words of "
        "the prompt computed before. Difference: of the best score, from ours in float32.",
        "prompt | batch | side | what | seconds = median | x ours = times_ours:.2f | "
        "difference = score_difference:.1e",
    ),
    "shortlist": (
        "Large vocabularies",
        "Seconds of one image in float32 with a shortlist of as many names as a prompt holds: "
        "backbone, ranking, the text of the new prompt, the tower once. Once: the vocabulary is "
        "embedded, before the first image. All names: *calculated* as for LVIS.",
        "names | prompts | shortlist | seconds = median | of it ranking = ranking:.3g | "
        "of it text = text:.3g | once = vocabulary:.3g | all names = all_names:.4g | "
        "x all names = times_all_names:.1f",
    ),
}
