"""The results as a JSON file and as Markdown tables; the tables are made from the JSON alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

__all__ = ["markdown", "write_report"]

Column = tuple[str, Callable[[dict], str]]

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
        lines += [f"## {title}", "", remark, "", *_table(columns, rows), ""]
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


def _table(columns: Sequence[Column], rows: Sequence[dict]) -> list[str]:
    used = [c for c in columns if any(c[1](row) for row in rows)]
    head = "| " + " | ".join(name for name, _ in used) + " |"
    rule = "|" + "|".join("---" for _ in used) + "|"
    return [head, rule, *("| " + " | ".join(f(row) for _, f in used) + " |" for row in rows)]


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


def _value(key: str, form: str = "") -> Callable[[dict], str]:
    def cell(row: dict) -> str:
        value = row.get(key)
        return "" if value is None else format(value, form)

    return cell


def _seconds(row: dict) -> str:
    seconds = row.get("seconds")
    if not seconds:
        return ""
    spread = f" ({min(seconds['runs']):.3g}-{max(seconds['runs']):.3g})"
    return f"{seconds['median']:.3g}{spread}"


def _times(key: str) -> Column:
    name = {"times_official": "x official", "times_gdino": "x Grounding DINO"}[key]
    return name, lambda row: f"{row[key]:.2f}" if row.get(key) else ""


def _stage(name: str) -> Column:
    label = f"of it {name}" if name in DYCONV_PARTS else name

    def cell(row: dict) -> str:
        value = row["stages"].get(name)
        return "" if value is None else f"{value:.3g}"

    return label, cell


def _stage_sum(row: dict) -> str:
    return f"{sum(row['stages'].get(name, 0.0) for name in STAGE_ORDER):.3g}"


def _stage_columns() -> list[Column]:
    columns = [("prompt", _value("prompt")), ("batch", _value("batch")), ("side", _value("what"))]
    for name in STAGE_ORDER:
        columns.append(_stage(name))
        if name == "DyConv":
            columns += [_stage(part) for part in DYCONV_PARTS]
    columns += [
        ("sum", _stage_sum),
        ("whole", lambda row: f"{row['stages']['whole']:.3g}"),
        ("whole without timers", _value("whole_without_timers", ".3g")),
    ]
    return columns


def _peak(row: dict) -> str:
    if row.get("peak_gb") is None:
        limit = f" {row['limit_gb']:.1f} GiB" if row.get("limit_gb") else " memory"
        return f"does not fit into{limit}"
    return f"{row['peak_gb']:.2f}"


def _train_problem(row: dict) -> str:
    return "does not fit into memory" if row.get("problem") else ""


SECTIONS: dict[str, tuple[str, str, Sequence[Column]]] = {
    "speed": (
        "Inference",
        "Seconds per call (all images of the batch), median (fastest-slowest). GFLOP: 2 per "
        "multiply-add; matrix products, convolutions and attention by torch's counter, deformable "
        "convolution and embedding_bag by hand. Share: of the fastest matrix product above.",
        [
            ("prompt", _value("prompt")),
            ("tokens", _value("tokens")),
            ("batch", _value("batch")),
            ("side", _value("what")),
            ("seconds", _seconds),
            ("images/s", _value("images_per_second", ".3g")),
            _times("times_official"),
            _times("times_gdino"),
            ("GFLOP", lambda row: f"{row['gflop']['total']:,.0f}"),
            ("GFLOP/s", _value("gflop_per_second", ",.0f")),
            ("share", _value("share_of_peak", ".0%")),
        ],
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
        [
            ("batch", _value("batch")),
            ("side", _value("what")),
            ("chunks", lambda row: f"{row['chunks']} of {row['chunks_of_vocabulary']}"),
            ("seconds", _value("seconds", ".3g")),
            ("of it backbone and FPN", _value("backbone_and_fpn", ".3g")),
            ("per chunk", _value("per_chunk", ".3g")),
            _times("times_official"),
            ("calculated, all chunks, per image", _value("calculated", ".4g")),
        ],
    ),
    "memory": (
        "Peak memory of inference",
        "GiB above the built model at the peak of one call with a new prompt, each in a process of "
        "its own (CPU: resident set; CUDA: what PyTorch allocated).",
        [
            ("prompt", _value("prompt")),
            ("batch", _value("batch")),
            ("side", _value("what")),
            ("peak, GiB", _peak),
            ("weights, GiB", _value("weights_gb", ".2f")),
        ],
    ),
    "train": (
        "Training step",
        "Forward and backward with COCO's 80 names, without optimizer; GiB above the resting model "
        'with its gradients. Checkpointing: "fusion" is what the official config recomputes, '
        '"block" whole blocks.',
        [
            ("side", _value("side")),
            ("checkpointing", _value("checkpointing")),
            ("precision", _value("precision")),
            ("batch", _value("batch")),
            ("size", lambda row: "x".join(map(str, row["size"]))),
            ("seconds", _seconds),
            ("peak, GiB", _value("peak_gb", ".2f")),
            ("", _train_problem),
        ],
    ),
    "losses": (
        "Losses of GLIPv2",
        "Forward and backward with COCO's 80 names, without optimizer; GiB above the resting model "
        "with its gradients.",
        [
            ("losses", _value("losses")),
            ("precision", _value("precision")),
            ("batch", _value("batch")),
            ("size", lambda row: "x".join(map(str, row["size"]))),
            ("seconds", _seconds),
            ("peak, GiB", _value("peak_gb", ".2f")),
        ],
    ),
    "compile": (
        "torch.compile of backbone and neck, dynamic sizes",
        "One image, sizes in this order; new graphs: compiled in the first call of that size.",
        [
            ("size", lambda row: "x".join(map(str, row["size"]))),
            ("precision", _value("precision")),
            ("eager, s", lambda row: f"{median(row['eager']):.3g}"),
            ("compiled, s", lambda row: f"{median(row['compiled']):.3g}"),
            ("x eager", _value("times_eager", ".2f")),
            ("first call, s", _value("first_call", ".3g")),
            ("new graphs", _value("new_graphs")),
            ("graph breaks in all", _value("graph_breaks")),
            ("largest difference of logits", _value("largest_difference", ".1e")),
        ],
    ),
    "agreement": (
        "bf16 and fp16 against float32",
        "Detections of ours in float32 that have a partner in half precision: same class, IoU > "
        "0.9, score within 0.01. Random weights give many candidates with scores close together, "
        "of which rounding picks others; what it costs in AP takes trained weights (--weights, "
        "--image).",
        [
            ("precision", _value("precision")),
            ("prompt", _value("prompt")),
            ("image", _value("image")),
            ("float32", _value("float32")),
            ("half", _value("half")),
            ("agree", _value("agree")),
        ],
    ),
    "profile": (
        "Where the time goes",
        "The operations of one call that take most of the device's time, of torch.profiler; "
        "profile_trace.json.gz has every call in order, for chrome://tracing or Perfetto.",
        [
            ("side", _value("side")),
            ("prompt", _value("prompt")),
            ("batch", _value("batch")),
            ("operation", lambda row: f"`{row['operation'][:70]}`"),
            ("calls", _value("calls")),
            ("ms", _value("ms", ".3g")),
            ("share", _value("share", ".0%")),
        ],
    ),
}
