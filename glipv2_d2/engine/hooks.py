"""Training hooks beside Detectron2's own, and the writers of a run."""

import logging
import os
from collections.abc import Sequence

from detectron2.engine import HookBase
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)

from glipv2_d2.engine.ema import ModelEMA

__all__ = ["EMAHook", "WeightDecayStepHook", "build_writers"]

logger = logging.getLogger(__name__)


class EMAHook(HookBase):
    """Takes the weights into the moving average after every step.

    Place it before the checkpointer and the evaluation, which use the average. The average is
    saved by handing the ``ModelEMA`` itself to the checkpointer (``ema=...``).
    """

    def __init__(self, ema: ModelEMA):
        self.ema = ema

    def after_step(self) -> None:
        self.ema.update()


class WeightDecayStepHook(HookBase):
    """Multiplies every weight decay by ``gamma`` at each of ``steps``, as GLIP-L's training does.

    Args:
        steps: fractions of the run in (0, 1), rising.
        gamma: the factor.
    """

    def __init__(self, steps: Sequence[float], gamma: float = 0.1):
        if list(steps) != sorted(steps) or not all(0 < step < 1 for step in steps):
            raise ValueError(f"train.weight_decay_steps must rise within (0, 1), got {list(steps)}")
        self.steps = tuple(steps)
        self.gamma = gamma

    def before_step(self) -> None:
        done = self.trainer.iter / self.trainer.max_iter
        factor = self.gamma ** sum(done >= step for step in self.steps)
        for group in self.trainer.optimizer.param_groups:
            # Kept with the group, and so in the checkpoint, that a resumed run does not drop twice.
            start = group.setdefault("initial_weight_decay", group["weight_decay"])
            group["weight_decay"] = start * factor


def build_writers(output_dir: str, max_iter: int) -> list[EventWriter]:
    """Console with ETA, ``metrics.json``, and TensorBoard where it is installed."""
    writers = [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
    ]
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        logger.info(
            "TensorBoard is not installed, so no event file is written; metrics.json has the same "
            "numbers. (`pip install tensorboard` turns it on.)"
        )
    else:
        writers.append(TensorboardXWriter(output_dir))
    return writers
