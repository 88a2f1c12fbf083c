#!/usr/bin/env python
"""gpu_check.md and gpu_check.json from what the parts of tools/gpu_check.sh left in a folder.

    python -m tools.gpu_report output/gpu_check --device cuda

The losses of the training stand beside those of the same steps on a CPU
(tools/benchmark/scenes_losses_cpu.json, which `--cpu-losses DIR` writes from a run on a CPU).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from glipv2_d2.errors import command
from glipv2_d2.files import whole_file
from tools.benchmark.machine import available_cores, describe_machine

REFERENCE = Path(__file__).resolve().parent / "benchmark" / "scenes_losses_cpu.json"
# Kernels, random numbers and bf16's rounding differ, so that the runs part slowly: the first ten
# steps must agree closely, the last fifty in what was learned.
FIRST, LAST = 0.02, 0.10
STATUS = {0: "passed", 77: "skipped"}
BENCHMARKS = (
    "speed", "graphs", "names", "lvis", "steps", "shortlist", "memory", "agreement", "profile",
)  # fmt: skip


def parts(folder: Path) -> dict[str, dict]:
    """Status and seconds of each part that was run."""
    found = {}
    for path in sorted((folder / "parts").glob("*")):
        if path.suffix != ".log":
            status, seconds = map(int, path.read_text().split())
            found[path.name] = {"status": STATUS.get(status, "failed"), "seconds": seconds}
            if status not in STATUS:
                log = path.with_suffix(".log").read_text(errors="replace")
                found[path.name]["log"] = log.splitlines()[-15:]
    return found


def losses(run: Path) -> dict[int, float]:
    """Iteration -> total loss (the median of the last twenty, as Detectron2 writes it)."""
    path = run / "metrics.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return {line["iteration"]: line["total_loss"] for line in lines if "total_loss" in line}


def training(folder: Path) -> dict | None:
    """Losses beside the CPU's; None without a training of the reference's length."""
    found = losses(folder / "train")
    reference = {int(k): v for k, v in json.loads(REFERENCE.read_text())["losses"].items()}
    if not found or max(found) != max(reference):
        return None
    rows = [{"iteration": i, "device": found[i], "cpu": reference[i]} for i in sorted(reference)]
    late = [row for row in rows if row["iteration"] >= rows[-1]["iteration"] - 50]
    mean = {side: sum(row[side] for row in late) / len(late) for side in ("device", "cpu")}
    first = abs(rows[0]["device"] / rows[0]["cpu"] - 1)
    last = abs(mean["device"] / mean["cpu"] - 1)
    return {"rows": rows, "first": first, "last": last, "agrees": first < FIRST and last < LAST}


def precisions(folder: Path) -> dict[str, dict]:
    """Precision -> the metrics of the shipped model."""
    return {
        path.parent.name.removeprefix("precision_"): json.loads(path.read_text())
        for path in sorted(folder.glob("precision_*/last_results.json"))
    }


def markdown(report: dict) -> str:
    machine = report["machine"]
    lines = [
        "# GPU check", "",
        f"{machine.get('gpu', machine['cpu'])}; PyTorch {machine['torch']}, Python "
        f"{machine['python']}; {machine['cores']} CPU cores.", "",
        "| part | | seconds |", "|---|---|---|",
        *(f"| {name} | {p['status']} | {p['seconds']} |" for name, p in report["parts"].items()),
        "",
    ]  # fmt: skip
    for name, part in report["parts"].items():
        if "log" in part:
            lines += [f"The end of `{name}`'s log:", "", "```", *part["log"], "```", ""]
    if report["training"]:
        run = report["training"]
        lines += [
            "## Training on scenes, AMP", "",
            f"Total loss beside the same steps on a CPU: the first differs by {run['first']:.1%} "
            f"(at most {FIRST:.0%}), the mean of the last fifty steps by {run['last']:.1%} (at "
            f"most {LAST:.0%}): {'agrees' if run['agrees'] else 'DOES NOT AGREE'}.", "",
            "| iteration | here | CPU |", "|---|---|---|",
            *(f"| {r['iteration']} | {r['device']:.4f} | {r['cpu']:.4f} |" for r in run["rows"]),
            "",
        ]  # fmt: skip
    if report["precisions"]:
        lines += ["## The shipped model on scenes", ""]
        lines += ["| precision | test set | AP | AP50 |", "|---|---|---|---|"]
        for precision, results in report["precisions"].items():
            lines += [
                f"| {precision} | {name} | {metrics['AP']:.2f} | {metrics['AP50']:.2f} |"
                for name, metrics in _tables(results)
            ]
        lines.append("")
    return "\n".join(lines)


def _tables(results: dict, name: str = "") -> Iterator[tuple[str, dict]]:
    """The name of each test set, and its metrics of boxes; a single set has no name."""
    if "bbox" in results:
        yield name, results["bbox"]
        return
    for key, value in results.items():
        yield from _tables(value, key)


def _write(path: Path, text: str) -> None:
    with whole_file(path, "w") as file:
        file.write(text)


@command
def main(argv: list[str] | None = None) -> int:
    """0: nothing failed; 1: a part failed, or the training does not agree with the CPU's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="OUT of tools/gpu_check.sh")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--cpu-losses", type=Path, metavar="RUN", help="write the reference from this run instead"
    )
    args = parser.parse_args(argv)
    if args.cpu_losses:
        _write(REFERENCE, json.dumps({"losses": losses(args.cpu_losses)}, indent=1) + "\n")
        return 0
    written = [n for n in BENCHMARKS if (args.folder / n / "benchmark.md").is_file()]
    report = {
        "machine": describe_machine(args.device, available_cores()),
        "parts": parts(args.folder),
        "training": training(args.folder),
        "precisions": precisions(args.folder),
        "benchmarks": {
            n: json.loads((args.folder / n / "benchmark.json").read_text()) for n in written
        },
    }
    pages = [(args.folder / name / "benchmark.md").read_text() for name in written]
    page = "\n".join([markdown(report), *(page.replace("# ", "## ", 1) for page in pages)])
    _write(args.folder / "gpu_check.md", page)
    _write(args.folder / "gpu_check.json", json.dumps(report, indent=1) + "\n")
    print(f"Written: {args.folder}/gpu_check.md and gpu_check.json")
    failed = any(part["status"] == "failed" for part in report["parts"].values())
    return int(failed or (report["training"] is not None and not report["training"]["agrees"]))


if __name__ == "__main__":
    sys.exit(main())
