"""Fine-tuning on few images: the rate falls, and the training ends, when nothing improves.

GLIP's rules for ODinW (its README): after each epoch the validation set is evaluated; the learning
rate is divided by ten when there was no improvement for more than 3 epochs, and the training ends
after 8. The best model is the result.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.engine.hooks import LRScheduler
from detectron2.utils import comm

from ..checkpoint import GLIPCheckpointer
from ..errors import ConfigError
from .hooks import Evaluation
from .saving import Saving

__all__ = ["Patience", "TrainingEnded"]

logger = logging.getLogger(__name__)


class TrainingEnded(BaseException):
    """Ends the loop of a trainer early, as planned.

    No `Exception`, which the loop would log as a failure.
    """


class Patience(Evaluation):
    """An evaluation that keeps `model_best.pth`, lowers the rate and ends the training.

    Used in place of Detectron2's `BestCheckpointer`, whose best value is forgotten by a run that
    is resumed. Place it in every process.

    Args:
        metric: name in the event storage, higher is better, e.g. `"bbox/AP"`; or several, whose
            mean decides, e.g. of LVIS and Flickr30k (GLIPv2, Figure 10).
        scheduler: the hook that sets the rates.
        checkpointer: saves `model_best.pth` in the main process.
        period, evaluate, saving: see `Evaluation`.
        lower_rate: the rates are multiplied by `factor` when more than so many evaluations in a
            row (since then) did not improve on the best by 0.01 %, as PyTorch's
            `ReduceLROnPlateau` counts; None: never.
        stop: the training ends after so many evaluations in a row below the best; None: never.

    Raises:
        ConfigError: no name; after an evaluation: it does not give the metric.
    """

    def __init__(
        self,
        metric: str | Sequence[str],
        scheduler: LRScheduler,
        checkpointer: GLIPCheckpointer,
        period: int,
        evaluate: Callable[[], dict],
        saving: Saving,
        *,
        lower_rate: int | None = None,
        stop: int | None = None,
        factor: float = 0.1,
    ):
        super().__init__(period, evaluate, saving)
        self._scheduler = scheduler
        self._checkpointer = checkpointer
        several = isinstance(metric, Sequence) and not isinstance(metric, str)
        self._metrics: list[str] = [*metric] if several else [metric]  # type: ignore[list-item]
        if not all(isinstance(name, str) and name for name in self._metrics):
            raise ConfigError(
                "train.best_metric is the name of a metric or a list of names, got "
                f"{', '.join(map(repr, self._metrics))}"
            )
        self._lower_rate = lower_rate
        self._stop = stop
        self._factor = factor
        self._state = {"best": -math.inf, "plateau_best": -math.inf, "flat": 0, "below": 0}

    def state_dict(self) -> dict:
        return {**super().state_dict(), **self._state}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self._state.update((key, state[key]) for key in self._state if key in state)

    def judge(self) -> None:
        value, state = self._value(), self._state
        improved = value >= state["best"]
        state.update(best=max(value, state["best"]), below=0 if improved else state["below"] + 1)
        going_on = self._evaluated < self.trainer.max_iter
        if going_on:
            self._judge_rates(value)
        told = "the best so far" if improved else f"the best is {state['best']:.2f}"
        logger.info("After %d iterations: %s %.2f, %s", self._evaluated, self._name, value, told)
        if improved:
            self._checkpointer.save("model_best", last=False, iteration=self._evaluated - 1)
        if going_on and self._stop is not None and state["below"] >= self._stop:
            raise TrainingEnded(
                f"{self._name} was below its best, {state['best']:.2f}, for {state['below']} "
                "evaluations in a row"
            )

    def _judge_rates(self, value: float) -> None:
        state = self._state
        best = state["plateau_best"]
        if best == -math.inf or value > best + 1e-4 * abs(best):
            state.update(plateau_best=value, flat=0)
        else:
            state["flat"] += 1
        if self._lower_rate is not None and state["flat"] > self._lower_rate:
            state["flat"] = 0
            self._multiply_rates()

    @property
    def _name(self) -> str:
        names = self._metrics
        return names[0] if len(names) == 1 else f"the mean of {' and '.join(names)}"

    def _value(self) -> float:
        """The metric, which the main process has, in every process; the mean of several."""
        values: list[Any] = []
        if comm.is_main_process():
            latest = self.trainer.storage.latest()
            values = [latest.get(name, (None,))[0] for name in self._metrics]
        values = comm.all_gather(values)[0]
        for name, value in zip(self._metrics, values):
            if value is None:
                raise ConfigError(
                    f"train.best_metric is '{name}', which the evaluation does not give; it gives: "
                    f"{self._known()}"
                )
        mean = sum(values) / len(values)
        if len(values) > 1:
            each = ", ".join(f"{n} {value:.2f}" for n, value in zip(self._metrics, values))
            logger.info("%s: their mean, %.2f, tells which checkpoint is the best", each, mean)
        return -math.inf if math.isnan(mean) else float(mean)

    def _known(self) -> str:
        return ", ".join(sorted(name for name in self.trainer.storage.latest() if "/" in name))

    def _multiply_rates(self) -> None:
        scheduler = self._scheduler.scheduler
        scheduler.base_lrs = [rate * self._factor for rate in scheduler.base_lrs]
        # Of the next step already; computed as the schedule of a resumed run does.
        for group, rate in zip(self.trainer.optimizer.param_groups, scheduler.get_lr()):
            group["lr"] = rate
            group["initial_lr"] *= self._factor  # is saved; a resumed schedule begins with it
        logger.info(
            "Iteration %d: no better %s, the learning rates are multiplied by %g",
            self.trainer.iter,
            self._name,
            self._factor,
        )
