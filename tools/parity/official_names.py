"""Gradients of our parameters under the official names."""

import torch
from torch import nn

from glipv2_d2.checkpoint import convert_official_glip

from .generated_weights import Entry, is_generated, manifest


class OfficialGradients:
    """What the gradient of an official parameter is made of.

    The conversion of weights only renames and joins tensors. Sent through it, tensors that are
    filled with a number of their own show where each official one ends up, so that no table of
    names is repeated here.

    Args:
        model: ours, after a backward pass.
        entries: of the official state dict.
    """

    def __init__(self, model: nn.Module, entries: list[Entry] | None = None):
        entries = manifest("glip_t") if entries is None else entries
        entries = [entry for entry in entries if is_generated(entry)]
        self._parameters = dict(model.named_parameters())
        # Expanded, so that the numbers take no memory where nothing is joined.
        numbered = {e.name: torch.tensor(float(i)).expand(e.shape) for i, e in enumerate(entries)}
        self._places = {}
        for ours, numbers in convert_official_glip(numbered).items():
            for number in _distinct(numbers):
                self._places[entries[number].name] = (number, ours, numbers)

    def __call__(self, name: str) -> torch.Tensor | None:
        """The gradient under this official name, flat, float64; None: ours has no such weight."""
        if name not in self._places:
            return None
        number, ours, numbers = self._places[name]
        gradient = self._parameters[ours].grad
        if gradient is None:
            return torch.zeros(numbers.numel(), dtype=torch.float64)
        return gradient.detach().cpu()[numbers == number].double()

    def total_norm(self) -> float:
        """Norm of the gradient of the whole model."""
        squares = [
            p.grad.double().square().sum() for p in self._parameters.values() if p.grad is not None
        ]
        return float(torch.stack(squares).sum().sqrt())


def _distinct(numbers: torch.Tensor) -> list[int]:
    """The numbers in a tensor that is joined along its first dimension."""
    firsts = numbers.reshape(len(numbers), -1)[:, 0]
    return firsts.unique().int().tolist()
