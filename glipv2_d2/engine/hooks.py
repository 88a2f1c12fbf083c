"""Training hooks beside Detectron2's own, and the writers of a run."""

import logging
import os

from detectron2.engine import HookBase
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)

from glipv2_d2.engine.ema import ModelEMA

__all__ = ["EMAHook", "build_writers"]

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
