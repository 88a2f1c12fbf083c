"""Training hooks beside Detectron2's own, and the writers of a run."""

import json
import logging
import math
import os
from collections.abc import Callable, Sequence

from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook, PeriodicWriter
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)

from ..errors import ConfigError
from ..files import whole_file
from ..signals import Stopped
from .saving import Saving

__all__ = ["Evaluation", "WeightDecayStepHook", "Writer", "build_writers"]

logger = logging.getLogger(__name__)


class WeightDecayStepHook(HookBase):
    """Multiplies every weight decay by `gamma` at each of `steps`, as GLIP-L's training does.

    Args:
        steps: fractions of the run in (0, 1), rising.
        gamma: the factor.
    """

    def __init__(self, steps: Sequence[float], gamma: float = 0.1):
        if list(steps) != sorted(steps) or not all(0 < step < 1 for step in steps):
            raise ConfigError(f"train.weight_decay_steps must rise within (0, 1): {list(steps)}")
        self.steps = tuple(steps)
        self.gamma = gamma

    def before_step(self) -> None:
        done = self.trainer.iter / self.trainer.max_iter
        factor = self.gamma ** sum(done >= step for step in self.steps)
        for group in self.trainer.optimizer.param_groups:
            # Kept with the group, and so in the checkpoint, that a resumed run does not drop twice.
            start = group.setdefault("initial_weight_decay", group["weight_decay"])
            group["weight_decay"] = start * factor


class Evaluation(EvalHook):
    """Detectron2's `EvalHook` whose evaluations a resumed run makes up for.

    A checkpoint is saved before the evaluation that is due then, so that the resumed run begins
    with it. Its metrics have the number of iterations that are done as their iteration. Place it
    between `Writer` and its `end`.

    Args:
        period: `train.eval_period`; 0: after the training only.
        evaluate: returns the metrics. When a signal ends it, the run is saved and stops.
        saving: saves then.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict], saving: Saving):
        super().__init__(period, evaluate)
        self._saving = saving
        self._evaluated = 0  # after so many iterations

    def state_dict(self) -> dict:
        return {"evaluated": self._evaluated}

    def load_state_dict(self, state: dict) -> None:
        self._evaluated = state.get("evaluated", 0)

    def before_train(self) -> None:
        trainer, start = self.trainer, self.trainer.start_iter
        due = self._period > 0 and start % self._period == 0 and start < trainer.max_iter
        if due and self._evaluated != start:
            trainer.iter = start - 1
            self._do_eval()
            trainer.iter = start

    def after_train(self) -> None:
        # `iter` is that of the last iteration when that has failed.
        if self._done() == self.trainer.iter and self._evaluated != self.trainer.iter:
            super().after_train()

    def _done(self) -> int:
        trainer = self.trainer
        return trainer.iter if trainer.iter >= trainer.max_iter else trainer.iter + 1

    def _do_eval(self) -> None:
        storage, done = self.trainer.storage, self._done()
        before, storage.iter = storage.iter, done  # as after the last iteration
        try:
            super()._do_eval()
        except Stopped as stopped:
            if done < self.trainer.max_iter:
                self._saving.save_and_stop(stopped.number)
            raise
        finally:
            storage.iter = before
        self._evaluated = done
        self.judge()

    def judge(self) -> None:
        """What follows from an evaluation."""


class Writer(PeriodicWriter):
    """Detectron2's `PeriodicWriter` but for the end of the training, which is `end`'s.

    Place it before the evaluation: a kill in that would else lose the numbers of this iteration;
    and let `end` be called behind it.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int):
        if period < 1:
            raise ConfigError(f"train.log_period must be at least 1, got {period}")
        super().__init__(writers, period)

    def after_train(self) -> None:
        pass

    def end(self) -> None:
        """Write what the evaluation after the training has found, and close the writers."""
        super().after_train()


class _Printer(CommonMetricPrinter):
    """Prints no iteration twice, as when a run is stopped; Detectron2's divides by zero then."""

    _printed: int | None = None

    def write(self) -> None:
        iteration = get_event_storage().iter
        if iteration != self._printed:
            super().write()
        self._printed = iteration


def build_writers(output_dir: str, max_iter: int, start_iter: int = 0) -> list[EventWriter]:
    """Console with ETA, `metrics.json`, and TensorBoard where it is installed.

    Args:
        output_dir, max_iter: of the run.
        start_iter: what the files have from there on is dropped: a resumed run writes it again.
    """
    metrics = os.path.join(output_dir, "metrics.json")
    _drop_metrics(metrics, start_iter)
    writers = [_Printer(max_iter), JSONWriter(metrics)]
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        logger.info(
            "TensorBoard is not installed, so no event file is written; metrics.json has the same "
            "numbers. (`pip install tensorboard` turns it on.)"
        )
    else:
        writers.append(TensorboardXWriter(output_dir, purge_step=start_iter))
    return writers


def _drop_metrics(path: str, start_iter: int) -> None:
    """Remove the lines of `metrics.json` from an iteration on, and what a kill has torn."""
    if not os.path.isfile(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    with whole_file(path, "w") as file:
        file.writelines(line for line in lines if _iteration_of(line) < start_iter)


def _iteration_of(line: str) -> float:
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError):  # half a line
        return math.inf
