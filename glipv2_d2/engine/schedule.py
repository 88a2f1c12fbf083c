"""Learning rate schedules with a warm-up that is counted in iterations."""

from collections.abc import Sequence

from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)

__all__ = ["warmup_cosine", "warmup_multi_step"]


def warmup_multi_step(
    *,
    max_iter: int,
    steps: Sequence[float] = (0.67, 0.89),
    gamma: float = 0.1,
    warmup_iters: int = 2000,
    warmup_factor: float = 0.001,
) -> ParamScheduler:
    """Multiply the rate by `gamma` at each of `steps` (fractions of the run in (0, 1))."""
    if list(steps) != sorted(steps) or not all(0 < step < 1 for step in steps):
        raise ValueError(f"lr_multiplier.steps must rise within (0, 1), got {list(steps)}")
    scheduler = MultiStepParamScheduler(
        values=[gamma**k for k in range(len(steps) + 1)],
        # Milestones count updates in fvcore; a million of them makes fractions exact enough and
        # leaves a run of a few iterations with steps in the right order.
        milestones=[round(step * 1_000_000) for step in steps],
        num_updates=1_000_000,
    )
    return _with_warmup(scheduler, max_iter, warmup_iters, warmup_factor)


def warmup_cosine(
    *,
    max_iter: int,
    end_factor: float = 0.0,
    warmup_iters: int = 2000,
    warmup_factor: float = 0.001,
) -> ParamScheduler:
    """Let the rate fall along half a cosine from 1 to `end_factor`."""
    scheduler = CosineParamScheduler(1.0, end_factor)
    return _with_warmup(scheduler, max_iter, warmup_iters, warmup_factor)


def _with_warmup(
    scheduler: ParamScheduler, max_iter: int, warmup_iters: int, warmup_factor: float
) -> ParamScheduler:
    if max_iter < 1:
        raise ValueError(f"train.max_iter must be at least 1, got {max_iter}")
    # A run shorter than its warm-up, such as a smoke test, warms up over half of its length.
    warmup_iters = min(warmup_iters, max_iter // 2)
    if warmup_iters < 1:
        return scheduler
    return WarmupParamScheduler(
        scheduler, warmup_factor=warmup_factor, warmup_length=warmup_iters / max_iter
    )
