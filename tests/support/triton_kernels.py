"""Where the tests of Triton kernels run: on CUDA, and on CPU in the process of the interpreter."""

import os

import pytest
import torch
import torch.nn.functional as F

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
on_cpu = pytest.mark.skipif(
    not INTERPRETED, reason="Triton's interpreter runs it, see test_deform_kernels.py"
)
on_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = [pytest.param("cpu", marks=on_cpu), pytest.param("cuda", marks=on_cuda)]

# Sums in float32 of some hundred values of size 1, in another order.
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
SIZES = [((9, 14), (5, 7)), ((8, 12), (4, 6)), ((3, 2), (2, 1)), ((1, 1), (1, 1))]
IMAGES, CHANNELS = 2, 6


def tensors(device, *shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).to(device).requires_grad_() for s in shapes]


def resized(x, size):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def assert_same_gradients(actual, expected, operands):
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator).to(x.device) for x in expected]
    found, reference = (
        torch.autograd.grad(sum((x * w).sum() for x, w in zip(outputs, weights)), operands)
        for outputs in (actual, expected)
    )
    for x, y in zip(found, reference):
        torch.testing.assert_close(x, y, **CLOSE)
