"""The Triton kernels of the deformable convolution against torchvision's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glipv2_d2.modeling.fusion import modulated_deform_conv2d
from glipv2_d2.modeling.fusion.deform_conv import taps_first
from tests.support.deform_conv import NAMES, operands, torchvision_form
from tests.support.triton_kernels import DEVICES, INTERPRETED

ROOT = Path(__file__).resolve().parents[3]
KERNELS = ("deform", "statistics", "merge", "attention")


@pytest.mark.skipif(INTERPRETED, reason="this is that process")
def test_all_kernels_by_the_interpreter():
    """On CPU by Triton's interpreter, which has to be asked for before Triton is imported."""
    pytest.importorskip("triton", reason="needs Triton")
    files = [Path(__file__).with_name(f"test_{name}_kernels.py") for name in KERNELS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        [*command, "-k", "cpu"], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "36 passed" in done.stdout


def deform_kernels():
    from glipv2_d2.modeling.fusion import deform_kernels  # needs Triton

    return deform_kernels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("offsets", ["near", "far", "zero"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_kernels_equal_torchvision(device, stride, offsets):
    """Forward and backward; an image is a slice of a larger map, as a level of the tower's is."""
    *tensors, bias = operands(5, 6, stride, offsets)
    tensors = [t.detach().to(device).requires_grad_() for t in (*tensors, bias)]
    x = tensors[0].permute(0, 2, 3, 1).flatten(1, 2)
    level = torch.cat((x, x), 1)[:, :30].unflatten(1, (5, 6)).permute(0, 3, 1, 2)
    x, *positions, weight, bias = tensors
    ours = deform_kernels().deform_conv2d(level, *positions, taps_first(weight), bias, stride)
    reference = torchvision_form(*tensors, stride)
    # Float32 sums of 54 products of size 1, in another order.
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0)).to(device)
    pairs = (torch.autograd.grad((y * direction).sum(), tensors) for y in (ours, reference))
    for name, actual, expected in zip(NAMES, *pairs):
        torch.testing.assert_close(
            actual, expected, atol=3e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kernels_under_autocast(dtype):
    """The model's size: within the rounding of the operands of the same in float32."""
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 256, 50, 76), (2, 18, 50, 76), (2, 9, 50, 76), (256, 256, 3, 3), (256,)
    x, offset, mask, weight, bias = (torch.randn(s, generator=generator).cuda() for s in shapes)
    tensors = [x, offset, mask.sigmoid(), weight / 48, bias]
    tensors = [t.requires_grad_() for t in tensors]
    with torch.autocast("cuda", dtype=dtype):
        ours = modulated_deform_conv2d(*tensors)
    assert ours.dtype == dtype
    reference = torchvision_form(*tensors, 1)
    direction = torch.randn(ours.shape, generator=generator).cuda()
    pairs = [torch.autograd.grad((y.float() * direction).sum(), tensors) for y in (ours, reference)]
    for actual, expected in zip((ours, *pairs[0]), (reference, *pairs[1])):
        error = (actual.float() - expected).norm() / expected.norm()
        assert error < 1e-2  # eight bits of mantissa
