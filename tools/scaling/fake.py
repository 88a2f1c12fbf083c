"""A model without weights: its tensors have shapes and no values, so that H fits into a laptop.

Backbone, language backbone, neck and head compute on PyTorch's fake tensors. What comes after them
depends on values (which anchors are positives, what survives NMS), which fake tensors do not have:
there real zeros of the same shape take over. A training step, forward and backward, takes seconds.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple
from unittest.mock import patch
from weakref import finalize

import torch
from detectron2.config import instantiate
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from glipv2_d2.errors import MissingPackageError
from glipv2_d2.modeling import GLIP, blocks
from glipv2_d2.modeling.fusion import dyhead
from glipv2_d2.modeling.text import TextFeatures

from ..benchmark.settings import model_config

GIB = 2**30
FAKE_PARTS = ("backbone", "language_backbone", "neck", "head")
# What CUDA's autocast computes in float32 and the CPU's in bf16, of what these models do.
FLOAT32_ON_CUDA = ("layer_norm", "group_norm")


def fake_model(config: str, overrides: Sequence[str] = ()) -> GLIP:
    """The GLIP of a LazyConfig, in training mode, on the CPU; no gradients yet.

    Raises:
        ConfigError: the config is not there or is no GLIP.
    """
    described = model_config(config, overrides)
    described.language_backbone.pretrained = False
    with torch.device("meta"):
        model = instantiate(described)
    for name, part in model.named_children():
        if name in FAKE_PARTS:
            with FakeTensorMode(allow_non_fake_inputs=True):
                part.to_empty(device="cpu")
            part.register_forward_hook(_as_real)
        elif name in described:
            setattr(model, name, instantiate(described[name]))
    for name in ("mean", "std"):
        setattr(model, f"pixel_{name}", torch.tensor(described[f"pixel_{name}"]).view(-1, 1, 1))
    # It looks at values to see whether a parameter has changed.
    model.text_cache._drop_if_modules_changed = lambda: None
    return model.train()


class _Real(torch.autograd.Function):
    """Zeros in place of a fake tensor; a fake gradient in place of theirs."""

    @staticmethod
    def forward(ctx, fake):
        ctx.mode = fake.fake_mode
        return torch.zeros(fake.shape, dtype=fake.dtype)

    @staticmethod
    def backward(ctx, gradient):
        with ctx.mode:
            return torch.empty(gradient.shape, dtype=gradient.dtype)


def _as_real(_module: nn.Module, _inputs: tuple, output):
    """A forward hook."""
    if isinstance(output, TextFeatures):  # whose mask is real
        hidden, embedded = (_as_real(_module, (), x) for x in (output.hidden, output.embedded))
        return dataclasses.replace(output, hidden=hidden, embedded=embedded)
    return tree_map_only(FakeTensor, _Real.apply, output)


class LiveBytes(TorchDispatchMode):
    """Bytes of what operators have made inside this context, and what of it is still referred to.

    Each storage counts once, as an allocator sees it that never rounds up. What a kernel takes for
    itself until it returns is not seen.

    Args:
        before: tensors that were there before; a view of one is nothing new.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self, before: Iterable[torch.Tensor] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _cuda_dropout(x, p: float = 0.5, training: bool = True, inplace: bool = False):
    """Keeps a byte where the CPU's keeps a number."""
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def _cuda_autocast(function: Callable) -> Callable:
    """The function, in float32 where autocast is on."""

    def call(*args, **kwargs):
        if torch.is_autocast_enabled("cpu"):
            args = tree_map_only(torch.Tensor, _float32, args)
        return function(*args, **kwargs)

    return call


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


class _Nothing:
    """A kernel that is launched as `kernel[grid](...)` and does nothing."""

    def __getitem__(self, _grid):
        return lambda *_, **__: None


@contextmanager
def nothing_launched() -> Iterator[None]:
    """The kernels of training are called and do nothing: their outputs are made outside of them."""
    from glipv2_d2.modeling.fusion import deform_kernels, merge_kernels, statistics_kernels

    with ExitStack() as stack:
        for module in (deform_kernels, merge_kernels, statistics_kernels):
            for name in [name for name in vars(module) if name.endswith("_kernel")]:
                stack.enter_context(patch.object(module, name, _Nothing()))
        yield


@contextmanager
def like_cuda(precision: str) -> Iterator[None]:
    """The CPU's tensors take the memory of a GPU's: our kernels, CUDA's dropout and autocast.

    Fake tensors of the device "cuda" would, too, but they need a driver in the backward pass. Up to
    there both count the same, which the tests compare.

    Args:
        precision: "float32" or "bf16".

    Raises:
        MissingPackageError: the kernels need Triton, which is not installed.
    """
    if not blocks.HAS_TRITON:
        raise MissingPackageError(
            "the memory of a GPU is that of our kernels, which need Triton: pip install triton"
        )
    with ExitStack() as stack:
        stack.enter_context(nothing_launched())
        stack.enter_context(patch.object(dyhead, "runs_kernels", lambda _: True))
        stack.enter_context(patch.object(F, "dropout", _cuda_dropout))
        if precision == "bf16":
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
            for name in FLOAT32_ON_CUDA:
                stack.enter_context(patch.object(F, name, _cuda_autocast(getattr(F, name))))
        yield


class StepMemory(NamedTuple):
    """GiB of a training step above weights and gradients: after the forward pass, at the peak."""

    kept: float
    peak: float


def step_memory(model: nn.Module, inputs: list[dict], way: AbstractContextManager) -> StepMemory:
    """Of forward and backward of a fake model; `way`: `like_cuda`, or none for the CPU's own."""
    there = *model.parameters(), *model.buffers()
    with LiveBytes(there) as live, way:
        for parameter in model.parameters():  # gradients are there from the first step on
            parameter.grad = torch.zeros_like(parameter)
        resting = live.now
        total = sum(model(inputs).values())
        kept = live.now - resting
        total.backward()
    return StepMemory(kept / GIB, (live.peak - resting) / GIB)
