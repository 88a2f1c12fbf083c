"""Time and peak memory of a training step, ours and the official arrangement's, in turns."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt

from .official import OfficialArrangement
from .settings import Settings, build_model
from .timing import Clock
from .workers import OutOfMemory, PeakMemory, Worker, return_free_memory
from .workload import prompt_names, train_inputs

# Side -> activation checkpointing that is measured: "fusion" is the official config's own.
MODES = {"official": ("none", "fusion", "block"), "ours": ("none", "block")}
LOSS_TOLERANCE = 1e-4  # relative, of loss terms and of the gradient's norm

_STATE: dict = {}  # of a worker process


@contextmanager
def without_randomness(model: nn.Module) -> Iterator[None]:
    """Dropout, stochastic depth and DropBlock off while the context lasts, in training mode too."""
    changed = []
    for module in model.modules():
        owners = [module, *getattr(module, "_forward_pre_hooks", {}).values()]
        for owner in owners:
            for name in ("p", "dropout", "drop_prob", "probability", "dropout_prob"):
                value = getattr(owner, name, None)
                if isinstance(value, float) and value > 0:
                    changed.append((owner, name, value))
                    setattr(owner, name, 0.0)
    try:
        yield
    finally:
        for owner, name, value in changed:
            setattr(owner, name, value)


def _build(settings: Settings, side: str, batch: int) -> None:
    settings.prepare()
    model = build_model(settings)
    prompt = Prompt.from_classes(prompt_names("coco"))
    side_model = OfficialArrangement(model) if side == "official" else model
    _STATE.update(
        settings=settings,
        model=model,
        side=side_model.train(),
        inputs=train_inputs(settings, prompt, batch),
    )
    # Gradients are there from the first step on; they are not what is compared.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def _set_checkpointing(mode: str) -> None:
    side = _STATE["side"]
    if isinstance(side, OfficialArrangement):
        side.set_checkpointing(mode)
    else:
        side.neck.use_checkpoint = mode == "block"


def _step(precision: str) -> dict[str, torch.Tensor]:
    """Forward and backward; the optimizer is left out, it is the same for both sides."""
    model, settings = _STATE["model"], _STATE["settings"]
    model.zero_grad(set_to_none=False)
    with settings.autocast(precision):
        losses = _STATE["side"](_STATE["inputs"])
    sum(losses.values()).backward()
    return losses


def _check(mode: str) -> dict[str, float]:
    """Loss terms and gradient norm without randomness; also the warm-up."""
    _set_checkpointing(mode)
    with without_randomness(_STATE["model"]):
        losses = _step("float32")
    losses = {name: float(value.detach()) for name, value in losses.items()}
    gradients = [p.grad for p in _STATE["model"].parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    return {**losses, "gradient": float(norm)}


def measure_step(step: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds and GiB above the resting model of one step."""
    peak = PeakMemory(device)
    seconds = Clock(device).time(step)
    used = peak.gb()
    return_free_memory()  # another side is next
    return seconds, used


def step_values(measured: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """What a row has of the steps that `measure_step` has measured."""
    seconds = [run[0] for run in measured]
    return {
        "seconds": {"median": statistics.median(seconds), "runs": seconds},
        "peak_gb": max(run[1] for run in measured),
    }


def _timed(mode: str, precision: str) -> tuple[float, float]:
    _set_checkpointing(mode)
    return measure_step(lambda: _step(precision), _STATE["settings"].device)


def measure_training(
    settings: Settings, batch: int, precisions: Sequence[str], limit_gb: float | None
) -> list[dict]:
    """A row per side, checkpointing and precision.

    Raises:
        ConfigError: losses or gradient norm of the two sides differ by more than LOSS_TOLERANCE.
    """
    on_cpu = torch.device(settings.device).type == "cpu"
    # Both processes are alive at once, one of them idle.
    limit = limit_gb if on_cpu else None
    with Worker(limit) as official, Worker(limit) as ours:
        workers = {"official": official, "ours": ours}
        for side, worker in workers.items():
            worker(_build, settings, side, batch)
        checks = {side: _try(worker, _check, "block") for side, worker in workers.items()}
        difference = _difference(checks)
        cases = [(s, m, p) for p in precisions for s in workers for m in MODES[s]]
        runs: dict[tuple, list] = {case: [] for case in cases}
        problems: dict[tuple, str] = {}
        for case in cases:  # a step that is not timed: other shapes, another allocator state
            side, mode, precision = case
            warm = _try(workers[side], _timed, mode, precision)
            if isinstance(warm, str):
                problems[case] = warm
        for _ in range(settings.repeats):
            for case in cases:
                if case not in problems:
                    side, mode, precision = case
                    runs[case].append(workers[side](_timed, mode, precision))
    about = {"batch": batch, "size": list(settings.size), "largest_relative_difference": difference}
    return [_row(case, runs[case], problems.get(case)) | about for case in cases]


def _try(worker: Worker, function, *args):
    """The result, or the reason why it did not fit."""
    try:
        return worker(function, *args)
    except OutOfMemory as error:
        return str(error)


def _difference(checks: dict[str, dict]) -> float:
    """Largest relative difference of losses and gradient norm."""
    for side, check in checks.items():
        if isinstance(check, str):
            raise ConfigError(
                f"not even a training step with checkpointing fits into memory ({side}: {check}): "
                "choose a smaller --train-size or a larger --memory-limit"
            )
    official, ours = checks["official"], checks["ours"]
    worst = max(abs(ours[k] - official[k]) / max(abs(official[k]), 1e-12) for k in official)
    if not worst <= LOSS_TOLERANCE:
        raise ConfigError(
            f"losses or gradients differ by {worst:.1e} relative (limit {LOSS_TOLERANCE:.0e}): "
            f"official {official}, ours {ours}"
        )
    return worst


def _row(case: tuple[str, str, str], runs: list, problem: str | None) -> dict:
    side, mode, precision = case
    row = {"side": side, "checkpointing": mode, "precision": precision, "problem": problem}
    return row | (step_values(runs) if runs else {})
