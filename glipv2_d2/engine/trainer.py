"""The trainer: mixed precision, clipping, and an error that says what was in a batch of NaN."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.engine import SimpleTrainer, TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from omegaconf import DictConfig
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..compat import PRECISIONS
from ..errors import ConfigError, TrainingDiverged
from ..modeling.processes import MicroBatches
from ..modeling.sharding import is_sharded
from ..seeding import drawn_again
from ..signals import starting_workers
from .optim import GradientClipper, sharded_optimizer_state

__all__ = ["BatchRecorder", "GLIPTrainer", "build_trainer", "train"]


class BatchRecorder:
    """Passes a loader's batches on and remembers the last one, for the error message."""

    def __init__(self, loader: Iterable[list[dict]]):
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


class GLIPTrainer(SimpleTrainer):
    """Detectron2's `SimpleTrainer` for any model, in three precisions, that stops at the first NaN.

    The stock `AMPTrainer` asserts CUDA, and v0.6's knows fp16 only. Gradients are scaled in fp16
    alone: bf16 has float32's range. They are unscaled before the optimizer sees them, so that
    clipping inside `optimizer.step` works on their true norm.

    Losses that depend on nothing that is trained are logged, and are no part of `total_loss`.

    Args:
        model, loader, optimizer: as for `SimpleTrainer`.
        clip_norm: largest norm of the whole model's gradient; None or 0: no clipping.
        precision: of autocast, "bf16" or "fp16"; None: float32. The model's first parameter says on
            which device.
        micro_batches: parts of a batch that go through the model one after another, see
            `MicroBatches`. Losses and gradients are those of the whole batch for a model that
            counts by `mean_over_processes`, as GLIP does; of another one they are averaged.

    Raises:
        ConfigError: another precision; micro-batches of a model with BatchNorm that is trained; in
            a step: none of the losses depends on what is trained.
        TrainingDiverged: in a step: a loss or, but in fp16, the gradient is not finite.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None = None,
        precision: str | None = None,
        micro_batches: int = 1,
    ):
        if micro_batches > 1:
            _refuse_batch_norm(model)
        if precision is not None and precision not in PRECISIONS:
            raise ConfigError(f"train.amp.precision must be 'bf16' or 'fp16', got '{precision}'")
        self.batches = BatchRecorder(loader)
        super().__init__(model, self.batches, optimizer)
        self.micro_batches = micro_batches
        device = next(model.parameters()).device
        self._devices = [device] if device.type == "cuda" else []  # whose random numbers are drawn
        self.autocast: AbstractContextManager = nullcontext()
        if precision is not None:
            self.autocast = torch.autocast(device.type, dtype=PRECISIONS[precision])
        # The scaler skips a step that overflowed and lowers its scale, so that an infinite gradient
        # is routine there and fatal elsewhere.
        scales = precision == "fp16"
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=scales)
        self.clipper = GradientClipper(
            optimizer, clip_norm, on_nonfinite=None if scales else self._stop_at_gradient
        )

    def run_step(self) -> None:
        """One iteration: data, forward under autocast, backward, metrics, optimizer."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        losses, trained = self._backward(batch)
        if hasattr(self, "after_backward"):  # Detectron2's head: a hook point of its own
            self.after_backward()
        self._log(losses, trained, data_time)
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if math.isfinite(self.clipper.last_norm):
            get_event_storage().put_scalar("grad_norm", self.clipper.last_norm)

    def _backward(self, batch: list[dict]) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Backward passes of all micro-batches.

        Returns:
            The losses of the batch, and the names of those that depend on what is trained.
        """
        micro_batches = MicroBatches(batch, self.micro_batches)
        count = len(micro_batches)
        if count > 1:
            with torch.no_grad(), drawn_again(self._devices):
                for index in range(count):
                    with micro_batches.turn(index, telling=True) as inputs, self.autocast:
                        self.model(inputs)
        sums: dict[str, torch.Tensor] = {}
        trained: list[str] = []
        for index in range(count):
            with self._averaging(index == count - 1):  # of gradients, over the processes
                with micro_batches.turn(index, telling=False) as inputs, self.autocast:
                    losses = self.model(inputs)
                if isinstance(losses, torch.Tensor):
                    losses = {"total_loss": losses}
                trained = [name for name, loss in losses.items() if loss.requires_grad]
                if not trained:
                    raise ConfigError(
                        "nothing that is trained contributes to the losses "
                        f"({', '.join(losses)}): name parts of the model on which they depend in "
                        "train.trained_parts, or null for all"
                    )
                self.grad_scaler.scale(sum(losses[name] for name in trained) / count).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach() / count
        return sums, trained

    def _averaging(self, wanted: bool) -> AbstractContextManager:
        """Whether the gradients of the next backward pass are averaged over the processes."""
        model: Any = self.model
        if is_sharded(model):
            model.set_requires_gradient_sync(wanted)
        elif not wanted and isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()

    def _log(self, losses: dict[str, torch.Tensor], trained: list[str], data_time: float) -> None:
        """Write the means over the processes, each of which checks its own losses.

        The stock check sees their mean in one process and cannot tell whose batch it was.
        """
        values = torch.stack([v.detach().float().reshape(()) for v in losses.values()]).tolist()
        if not all(map(math.isfinite, values)):
            terms = ", ".join(f"{name}={value:.6g}" for name, value in zip(losses, values))
            self._stop(f"the loss is not finite. Terms: {terms}")
        everyone = comm.gather((values, trained, data_time))
        if not comm.is_main_process():
            return
        rows, names, seconds = zip(*everyone)
        means = {name: sum(c) / len(c) for name, c in zip(losses, zip(*rows))}
        total = sum(value for name, value in means.items() if name in set().union(*names))
        storage = get_event_storage()
        storage.put_scalar("data_time", max(seconds))  # the slowest counts
        storage.put_scalars(**{"total_loss": total, **means})

    def _stop_at_gradient(self, norm: float) -> None:
        self._stop(f"the gradient is not finite (norm {norm}), though the losses are")

    def _stop(self, reason: str) -> None:
        names = ", ".join(self.batches.file_names())
        raise TrainingDiverged(
            f"training stopped at iteration {self.iter}: {reason}. Images of the batch: {names}. "
            "Look at these images and their boxes; if they are sound, lower optimizer.lr, lengthen "
            "the warm-up, or train in float32 or bf16 (train.amp)"
        )

    def state_dict(self) -> dict[str, Any]:
        """`SimpleTrainer`'s state and the scaler's, which is empty but in fp16."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`; a run that was in another precision may be resumed."""
        of_optimizer = sharded_optimizer_state(state_dict["optimizer"], self.optimizer)
        super().load_state_dict({**state_dict, "optimizer": of_optimizer})
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def build_trainer(
    model: nn.Module,
    loader: Iterable[list[dict]],
    optimizer: torch.optim.Optimizer,
    train_config: DictConfig,
) -> GLIPTrainer:
    """Build the trainer that `train.amp`, `clip_grad` and `micro_batches` of a config ask for."""
    amp = train_config.amp
    precision = amp.get("precision", "bf16") if amp.enabled else None
    clip_norm = train_config.get("clip_grad", None)
    count = train_config.get("micro_batches", 1)
    return GLIPTrainer(model, loader, optimizer, clip_norm, precision, count)


def _refuse_batch_norm(model: nn.Module) -> None:
    """Its statistics are of one micro-batch, whatever is done about the losses."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and any(p.requires_grad for p in module.parameters()):
            raise ConfigError(
                f"train.micro_batches cannot equal the whole batch: {name} is a BatchNorm, whose "
                'statistics are of one micro-batch; use norm="FrozenBN" or "GN", freeze it '
                "(train.trained_parts), or set train.micro_batches=1"
            )


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
