"""The parts that time inference: speed (with Grounding DINO), stages, LVIS, agreement."""

import statistics
from collections.abc import Sequence

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt

from .agreement import compare_outputs, detections_that_agree, recorded_heads
from .flops import count_flops
from .sides import SIDES, Bench
from .stages import StageTimer
from .timing import Clock, Timing, interleave
from .weights import calibrate
from .workload import lvis_prompts, make_inputs, prompt_names

TOLERANCE = 1e-4  # of logits, deltas and centerness; the parity tests' too


def prepared_inputs(bench: Bench, kind: str, batch: int) -> list[dict]:
    """Inputs of a prompt kind; random weights are calibrated on them."""
    return _calibrated(
        bench, make_inputs(bench.settings, Prompt.from_classes(prompt_names(kind)), batch)
    )


def _calibrated(bench: Bench, inputs: list[dict]) -> list[dict]:
    if bench.settings.weights is None:
        calibrate(bench.model, inputs, bench.settings.candidates)
    return inputs


class FirstCalls:
    """The first call of every side: warms it up, counts its work, and keeps what it returned."""

    def __init__(self, bench: Bench, inputs: list[dict], sides: Sequence[str]):
        self.bench, self.inputs = bench, inputs
        self.gflop: dict[str, dict[str, float]] = {}
        self.results: dict[str, list[dict]] = {}
        self.heads: dict[str, list] = {}
        modules = {side: bench.module(side) for side in sides}
        for side in sides:
            if side.startswith("ours"):
                bench.show_prompts(side, inputs)
            with recorded_heads(modules[side]) as self.heads[side]:
                self.gflop[side] = count_flops(lambda side=side: self._call(side))

    def _call(self, side: str) -> None:
        self.results[side] = self.bench.call(side, self.inputs)

    def agreement(self) -> dict[str, float] | None:
        """See `check_agreement`; None if one of the two was not called. Frees what was kept."""
        both = {"ours", "official"} <= self.results.keys()
        agreement = check_agreement(self) if both else None
        self.heads.clear()
        self.results.clear()
        return agreement


def check_agreement(first: FirstCalls) -> dict[str, float]:
    """Differences between our outputs and the official arrangement's, and detections of both.

    Raises:
        ConfigError: they differ by more than TOLERANCE, so that their times are not comparable.
    """
    mine, theirs = first.results["ours"], first.results["official"]
    prompts = [x["prompt"] for x in first.inputs]
    asked = [prompt if isinstance(prompt, list) else [prompt] for prompt in prompts]
    tokenizer = first.bench.model.tokenizer
    differences = compare_outputs(first.heads["ours"], first.heads["official"], asked, tokenizer)
    worst = max(differences[name] for name in ("logits", "deltas", "centerness"))
    if not worst <= TOLERANCE:
        raise ConfigError(
            f"our outputs and the official arrangement's differ by {worst:.1e} (limit "
            f"{TOLERANCE:.0e}): {differences}; what does not compute the same is not timed"
        )
    found = [x["instances"] for x in theirs]
    return {
        **differences,
        "detections": sum(len(x) for x in found),
        "detections_that_agree": sum(
            detections_that_agree(x, y["instances"], iou=0.99, score=1e-3)
            for x, y in zip(found, mine)
        ),
    }


def measure_speed(bench: Bench, kind: str, batch: int, sides: Sequence[str]) -> list[dict]:
    """A row per side: seconds, GFLOP, GFLOP per second."""
    inputs = prepared_inputs(bench, kind, batch)
    tokens = bench.model.tokenizer.num_tokens(inputs[0]["prompt"].caption)
    first = FirstCalls(bench, inputs, sides)
    agreement = first.agreement()
    calls = bench.calls(sides, inputs)
    timings = interleave(calls, bench.settings.repeats, Clock(bench.settings.device))
    rows = []
    for side in sides:
        seconds = timings[side].median
        rows.append(
            {
                "side": side,
                "what": SIDES[side],
                "prompt": kind,
                "tokens": tokens,
                "batch": batch,
                "seconds": timings[side].as_dict(),
                "images_per_second": batch / seconds,
                **_compared(timings, seconds),
                "gflop": first.gflop[side],
                "gflop_per_second": first.gflop[side]["total"] / seconds,
                "agreement": agreement if side == "ours" else None,
            }
        )
    return rows


def _compared(timings: dict[str, Timing], seconds: float) -> dict[str, float]:
    """How many times as fast as the official arrangement and as Grounding DINO, if measured."""
    others = timings.keys() & {"official", "gdino"}
    return {f"times_{other}": timings[other].median / seconds for other in others}


def measure_stages(bench: Bench, kind: str, batch: int, sides: Sequence[str]) -> list[dict]:
    """A row per side: seconds of every stage, their sum, and the whole with and without timers."""
    inputs = prepared_inputs(bench, kind, batch)
    clock = Clock(bench.settings.device)
    calls = bench.calls(sides, inputs)
    timers = {side: StageTimer(bench.module(side), clock) for side in sides}
    for call in calls.values():
        call()  # warm, and with prompts seen
    measured: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    plain: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(bench.settings.repeats):
        for side, call in calls.items():
            measured[side].append(timers[side].measure(call))
            plain[side].append(clock.time(call))
    rows = []
    for side in sides:
        names = sorted({name for run in measured[side] for name in run})
        stages = {
            name: statistics.median(run.get(name, 0.0) for run in measured[side]) for name in names
        }
        rows.append(
            {
                "side": side,
                "what": SIDES[side],
                "prompt": kind,
                "batch": batch,
                "stages": stages,
                "whole_without_timers": statistics.median(plain[side]),
                "runs": measured[side],
            }
        )
    return rows


def measure_lvis(bench: Bench, chunks: int, batch: int, sides: Sequence[str]) -> list[dict]:
    """A row per side: `chunks` of LVIS's prompts, the backbone's part of the time by itself.

    Only the measured chunks are in `seconds`; `calculated` scales what is spent per chunk to the
    whole vocabulary and counts what is spent per image once, where a side does so.
    """
    prompts, total = lvis_prompts(bench.model.tokenizer, chunks)
    inputs = _calibrated(bench, make_inputs(bench.settings, prompts, batch))
    first = FirstCalls(bench, inputs, sides)
    agreement = first.agreement()
    calls = bench.calls(sides, inputs)
    clock = Clock(bench.settings.device)
    timers = {side: StageTimer(bench.module(side), clock) for side in sides}
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(bench.settings.repeats):
        for side, call in calls.items():
            runs[side].append(timers[side].measure(call))
    rows = []
    for side in sides:
        whole = statistics.median(run["whole"] for run in runs[side])
        visual = statistics.median(run["Swin"] + run["FPN"] for run in runs[side])
        # The official arrangement runs the backbone for every chunk: nothing is spent only once.
        once = 0.0 if side.startswith("official") else visual
        rows.append(
            {
                "side": side,
                "what": SIDES[side],
                "batch": batch,
                "chunks": chunks,
                "chunks_of_vocabulary": total,
                "seconds": whole,
                "seconds_per_image": whole / batch,
                "backbone_and_fpn": visual,
                "per_chunk": (whole - once) / chunks,
                "calculated": (once + (whole - once) / chunks * total) / batch,
                "gflop": first.gflop[side],
                "runs": runs[side],
                "agreement": agreement if side == "ours" else None,
            }
        )
    for row in rows:
        official = next((r for r in rows if r["side"] == "official"), None)
        row["times_official"] = official["seconds"] / row["seconds"] if official else None
    return rows


def measure_half(bench: Bench, kind: str, batch: int, precision: str) -> list[dict]:
    """How many float32 detections of ours find a partner among those of bf16 or fp16, per image."""
    inputs = prepared_inputs(bench, kind, batch)
    reference, other = bench.call("ours", inputs), bench.call(f"ours-{precision}", inputs)
    rows = []
    for i, (x, y) in enumerate(zip(reference, other)):
        x, y = x["instances"], y["instances"]
        rows.append(
            {
                "prompt": kind,
                "image": i,
                "precision": precision,
                "float32": len(x),
                "half": len(y),
                "agree": detections_that_agree(x, y),
                "largest_score": float(x.scores.max()) if len(x) else 0.0,
            }
        )
    return rows
