"""Exponential moving average of the weights, as GLIP evaluates with it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import ConfigError
from ..modeling.sharding import local_part, sharded_like

__all__ = ["ModelEMA"]


class ModelEMA:
    """A running average of a model's trainable parameters, kept beside it.

    Only what is trained is averaged: frozen parameters do not move, and a frozen BERT would
    double the memory for nothing. Buffers are not averaged; during evaluation the model's current
    ones are used.

    Args:
        model: what is averaged; a DistributedDataParallel wrapper is looked through.
        decay: weight of the old average, 0.999 in GLIP.
        warmup: let the decay grow as `min(decay, (1 + n) / (10 + n))` over the updates n, so
            that a short run is not dominated by the weights it started from.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, warmup: bool = True):
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"train.ema.decay must lie in [0, 1), got {decay}")
        module = getattr(model, "module", model)
        self.decay = decay
        self.warmup = warmup
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.reset()

    def reset(self) -> None:
        """Start again from the model's present weights (after new weights were loaded)."""
        self.updates = 0
        self.shadow = {n: p.detach().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present weights into the average."""
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        shadow = [local_part(value) for value in self.shadow.values()]
        current = [local_part(p.detach()) for p in self._parameters.values()]
        get_ema_multi_avg_fn(decay)(shadow, current, None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model carries the averaged weights.

        The weights are copied in and out in place and under autograd's version counter, by which
        the model's cache of text features notices that it is stale.
        """
        kept = {n: p.detach().clone() for n, p in self._parameters.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(kept[name])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the model's weights by the average, for good."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.shadow[name])

    def state_dict(self) -> dict:
        """The average by the parameters' names, and the number of updates."""
        return {"shadow": self.shadow, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a checkpoint's average.

        Raises:
            ValueError: the average belongs to another set of trainable parameters.
        """
        differing = sorted(set(state["shadow"]) ^ set(self.shadow))
        if differing:
            raise ValueError(
                f"the checkpoint's moving average covers other parameters than the model trains: "
                f"{len(differing)} differ, for example {', '.join(differing[:3])}: resume with the "
                "config that made the checkpoint, or start anew with train.init_checkpoint"
            )
        self.updates = int(state["updates"])
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(sharded_like(value, self.shadow[name]))
