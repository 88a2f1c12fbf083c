"""The learning-rate range test: `glip lr-find` (Smith 2017, "Cyclical Learning Rates")."""

import argparse
import csv
import io
import logging
from pathlib import Path
from statistics import median
from typing import Any

from detectron2.engine import HookBase, default_setup, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter
from omegaconf import DictConfig, open_dict

from ..errors import ConfigError, TrainingDiverged, UsageError
from ..files import whole_file
from ..signals import StopSignals
from .hooks import Writer
from .patience import TrainingEnded
from .setup import (
    load_config,
    require_fsdp,
    require_masks,
    require_micro_batches,
    setup_logging,
)
from .training import do_train

__all__ = ["RangeTest", "main", "suggested_rate"]

logger = logging.getLogger(__name__)

SMOOTHING, WINDOW = 0.8, 5  # of the loss's moving average and median
DIVERGED = 4.0  # times the best smoothed loss
FEWEST = 10  # iterations that say something


class RangeTest(HookBase):
    """Raises all learning rates from iteration to iteration by one factor, and keeps the losses.

    The rates of single parts of the model keep their ratio to the config's `optimizer.lr`, which
    is what goes from the lowest to the highest. The test ends where the smoothed loss is four times
    its best, at the highest rate, or at Ctrl-C, and leaves `lr_find.csv` and `lr_find.png`.

    Args:
        base_lr: `optimizer.lr`.
        lowest, highest: values of it.
        output_dir: of the files.

    Raises:
        UsageError: the rates are not positive and rising.
    """

    def __init__(self, base_lr: float, lowest: float, highest: float, output_dir: str):
        if not 0 < lowest < highest:
            raise UsageError(f"0 < --lowest < --highest is wanted, got {lowest:g} and {highest:g}")
        self.base_lr = base_lr
        self.lowest, self.highest = lowest, highest
        self.output_dir = Path(output_dir)
        self.stop = StopSignals()
        self.rates: list[float] = []
        self.losses: list[float] = []

    @property
    def smoothed(self) -> list[float]:
        """A moving average of moving medians: single batches stand out, as one without boxes."""
        mean, averages = 0.0, []
        for number in range(1, len(self.losses) + 1):
            middle = median(self.losses[max(number - WINDOW, 0) : number])
            mean = SMOOTHING * mean + (1 - SMOOTHING) * middle
            averages.append(mean / (1 - SMOOTHING**number))
        return averages

    def before_train(self) -> None:
        groups = self.trainer.optimizer.param_groups
        self._ratios = [group["lr"] / self.base_lr for group in groups]

    def before_step(self) -> None:
        share = self.trainer.iter / max(self.trainer.max_iter - 1, 1)
        rate = self.lowest * (self.highest / self.lowest) ** share
        for group, ratio in zip(self.trainer.optimizer.param_groups, self._ratios):
            group["lr"] = rate * ratio
        self.rates.append(rate)
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)

    def after_step(self) -> None:
        reason = None
        if comm.is_main_process():  # which alone has the mean of the losses
            self.losses.append(self.trainer.storage.latest()["total_loss"][0])
            smoothed = self.smoothed
            if len(smoothed) >= FEWEST and smoothed[-1] > DIVERGED * min(smoothed):
                reason = f"the smoothed loss is {DIVERGED:g} times its best"
        if self.stop.number is not None:
            reason = "it was told to stop"
        reason = next((r for r in comm.all_gather(reason) if r is not None), None)
        if reason is not None:
            raise TrainingEnded(reason)

    def after_train(self) -> None:
        if not comm.is_main_process() or len(self.losses) < FEWEST:
            return
        rates, smoothed = self.rates[: len(self.losses)], self.smoothed
        suggestion = suggested_rate(rates, smoothed)
        with whole_file(self.output_dir / "lr_find.csv", "w") as file:
            writer = csv.writer(file)
            writer.writerow(["lr", "loss", "smoothed_loss"])
            writer.writerows(zip(rates, self.losses, smoothed))
        with whole_file(self.output_dir / "lr_find.png") as file:
            file.write(_curve(rates, self.losses, smoothed, suggestion))
        curve = self.output_dir / "lr_find.png"
        if suggestion is None:
            logger.warning(
                "The loss does not fall from the rate %.2g on: begin below it (--lowest); or the "
                "training data are wrong, or the weights fit them already. The curve is in %s",
                rates[0],
                curve,
            )
            return
        text = (
            "Suggestion: optimizer.lr=%.2g, a tenth of the rate at which the loss is least; see %s"
        )
        logger.info(text, suggestion, curve)
        if smoothed[-1] == min(smoothed):
            logger.warning("The loss still falls at the highest rate, %.2g: raise it", rates[-1])


def suggested_rate(rates: list[float], smoothed: list[float]) -> float | None:
    """A tenth of the rate at which the smoothed loss is least; None where it does not fall."""
    least = smoothed.index(min(smoothed))
    return rates[least] / 10 if least >= FEWEST // 2 else None


def _curve(
    rates: list[float], losses: list[float], smoothed: list[float], suggestion: float | None
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(rates, losses, color="lightgray", label="loss")
    axes.semilogx(rates, smoothed, label="smoothed")
    if suggestion is not None:
        axes.axvline(suggestion, linestyle="--", label=f"optimizer.lr={suggestion:.2g}")
    axes.set_ylim(0, 2 * smoothed[0])
    axes.set(xlabel="optimizer.lr", ylabel="total loss")
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def main(args: argparse.Namespace) -> None:
    """Run the range test, in one process of the job.

    The weights that the config names are only read, and no checkpoint is written.

    Args:
        args: the options of glip_commands/lr_find.py.

    Raises:
        ConfigError: the optimizer of the config has no `lr`.
        TrainingDiverged: at once, so that there is nothing to be seen; of several processes always.
    """
    cfg = load_config(args)
    if args.iterations < FEWEST:
        raise UsageError(f"--iterations must be at least {FEWEST}, got {args.iterations}")
    if not isinstance(base := cfg.optimizer.get("lr"), (int, float)) or not base > 0:
        raise ConfigError("lr-find varies optimizer.lr, and the config gives no positive one")
    _only_test(cfg, args.iterations)
    test = RangeTest(base, args.lowest, args.highest, cfg.train.output_dir)
    default_setup(cfg, args)
    setup_logging(cfg.train.output_dir)
    require_masks(cfg)
    require_micro_batches(cfg)
    require_fsdp(cfg)

    def build_hooks(*arguments: Any) -> list[HookBase | None]:
        *_, test.stop, _ = arguments
        printer = Writer([CommonMetricPrinter(args.iterations)], cfg.train.log_period)
        return [hooks.IterationTimer(), test, printer if comm.is_main_process() else None]

    try:
        do_train(args, cfg, build_hooks)
    except TrainingDiverged:
        # Of several processes only one may have seen it, and the others wait for it.
        if len(test.losses) < FEWEST or comm.get_world_size() > 1:
            raise
        logger.info("The training diverged at optimizer.lr=%.3g", test.rates[-1])


def _only_test(config: DictConfig, iterations: int) -> None:
    """Leave out of a training what a range test has no use for."""
    train = config.train
    with open_dict(train):
        train.output_dir = f"{train.output_dir}/lr_find"
        train.max_iter, train.eval_period = iterations, -1
        train.ema.enabled = False
        train.writers = []
