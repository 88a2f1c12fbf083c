"""The stock trainers, with a guard that says what was in the batch when a loss is not finite."""

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from detectron2.engine import SimpleTrainer, TrainerBase
from detectron2.utils.events import EventStorage, get_event_storage

from ..compat import AMPTrainer
from ..errors import ConfigError, TrainingDiverged
from ..signals import starting_workers
from .optim import GradientClipper

__all__ = [
    "BatchRecorder",
    "GLIPAMPTrainer",
    "GLIPTrainer",
    "TrainingDiverged",
    "build_trainer",
    "train",
]


class BatchRecorder:
    """Passes a loader's batches on and remembers the last one, for the error message."""

    def __init__(self, loader: Iterable):
        self.loader = loader
        self.last: list[dict] = []

    def __iter__(self) -> Iterator[list[dict]]:
        # What a loader draws, such as its workers' seeds when it starts, must not shift what the
        # model draws: in a resumed run it starts in another iteration.
        with torch.random.fork_rng(devices=[]), starting_workers():
            batches = iter(self.loader)
            batch = next(batches, None)
        while batch is not None:
            self.last = batch
            yield batch
            with torch.random.fork_rng(devices=[]):
                batch = next(batches, None)

    def file_names(self) -> list[str]:
        """The images of the last batch."""
        return [str(record.get("file_name", "(no file name)")) for record in self.last]


class _Guarded:
    """Mixed into a Detectron2 trainer: clips the full gradient and stops at the first NaN.

    Args:
        model, loader, optimizer: as for the trainer.
        clip_norm: largest norm of the whole model's gradient; None or 0: no clipping.
        options: further keywords of the trainer.
    """

    def __init__(self, model, loader, optimizer, clip_norm: float | None = None, **options):
        self.batches = BatchRecorder(loader)
        super().__init__(model, self.batches, optimizer, **options)
        # A gradient scaler skips a step that overflowed and lowers its scale, so that an infinite
        # gradient is routine there and fatal elsewhere.
        scaler = getattr(self, "grad_scaler", None)
        scales = scaler is not None and scaler.is_enabled()
        self.clipper = GradientClipper(
            optimizer, clip_norm, on_nonfinite=None if scales else self._stop_at_gradient
        )

    def _write_metrics(self, loss_dict: Mapping[str, torch.Tensor], *args, **kwargs) -> None:
        # Every rank checks its own losses here; the stock check sees their mean on rank 0 only
        # and cannot tell whose batch it was.
        values = torch.stack([v.detach().float().reshape(()) for v in loss_dict.values()])
        if not torch.isfinite(values).all():
            terms = ", ".join(f"{k}={v:.6g}" for k, v in zip(loss_dict, values.tolist()))
            self._stop(f"the loss is not finite. Terms: {terms}")
        super()._write_metrics(loss_dict, *args, **kwargs)

    def run_step(self) -> None:
        super().run_step()
        if math.isfinite(self.clipper.last_norm):
            get_event_storage().put_scalar("grad_norm", self.clipper.last_norm)

    def _stop_at_gradient(self, norm: float) -> None:
        self._stop(f"the gradient is not finite (norm {norm}), though the losses are")

    def _stop(self, reason: str) -> None:
        names = ", ".join(self.batches.file_names())
        raise TrainingDiverged(
            f"Training stopped at iteration {self.iter}: {reason}. Images of the batch: {names}. "
            "Look at these images and their boxes; if they are sound, lower optimizer.lr, lengthen "
            "the warm-up, or train in float32 or bf16 (train.amp)."
        )


class GLIPTrainer(_Guarded, SimpleTrainer):
    """Detectron2's `SimpleTrainer`, guarded."""


class GLIPAMPTrainer(_Guarded, AMPTrainer):
    """Detectron2's `AMPTrainer`, guarded; `precision` is "bf16" or "fp16"."""


def build_trainer(model, loader, optimizer, train_config) -> GLIPTrainer | GLIPAMPTrainer:
    """Build the trainer that `train.amp` and `train.clip_grad` of a config ask for.

    Raises:
        ConfigError: `train.amp.precision` is neither "bf16" nor "fp16".
    """
    clip_norm = train_config.get("clip_grad", None)
    amp = train_config.amp
    if not amp.enabled:
        return GLIPTrainer(model, loader, optimizer, clip_norm)
    precision = amp.get("precision", "bf16")
    if precision not in ("bf16", "fp16"):
        raise ConfigError(f"train.amp.precision must be 'bf16' or 'fp16', got '{precision}'.")
    return GLIPAMPTrainer(model, loader, optimizer, clip_norm, precision=precision)


def train(trainer: TrainerBase, start_iter: int, max_iter: int) -> None:
    """Train from `start_iter`, or do what is left of a run that has reached its last iteration.

    That is the evaluation after it, where a kill has left it out; Detectron2's loop would take an
    iteration that there is not into its logs.
    """
    if start_iter < max_iter:
        trainer.train(start_iter, max_iter)
        return
    trainer.iter = trainer.start_iter = start_iter
    trainer.max_iter = max_iter
    with EventStorage(start_iter) as trainer.storage:
        trainer.before_train()
        trainer.after_train()
