"""The gather form of the deformable convolution against torchvision's kernel."""

import pytest
import torch
import torch.nn.functional as F

from glipv2_d2.modeling import blocks
from glipv2_d2.modeling.fusion import DeformConvNorm, modulated_deform_conv2d
from tests.support.deform_conv import CHANNELS, NAMES, OUT, operands, torchvision_form


def compare(x, offset, mask, weight, bias, stride):
    """Outputs and the gradients of all five operands."""
    tensors = (x, offset, mask, weight, bias)
    ours = modulated_deform_conv2d(*tensors, stride)
    reference = torchvision_form(*tensors, stride)
    # Float32 sums of 54 products of size 1, in another order.
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    pairs = (torch.autograd.grad((out * direction).sum(), tensors) for out in (ours, reference))
    for name, actual, expected in zip(NAMES, *pairs):
        torch.testing.assert_close(
            actual, expected, atol=3e-5, rtol=1e-5, msg=lambda m, n=name: f"gradient of {n}: {m}"
        )
    return ours


@pytest.mark.parametrize("offsets", ["near", "far", "zero"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("height, width", [(7, 10), (5, 3), (1, 1), (2, 9)])
def test_equals_torchvision(height, width, stride, offsets):
    out = compare(*operands(height, width, stride, offsets), stride)
    assert out.shape == (2, OUT, -(-height // stride), -(-width // stride))


def test_offsets_are_dy_dx_pairs_in_input_pixels():
    """One tap, the center, moved 2 down and 1 left: a shifted copy of the image."""
    x = torch.arange(30.0).view(1, 1, 5, 6)
    offset = torch.zeros(1, 18, 5, 6)
    offset[:, 8], offset[:, 9] = 2, -1
    mask = torch.ones(1, 9, 5, 6)
    weight = torch.zeros(1, 1, 3, 3)
    weight[..., 1, 1] = 1
    out = modulated_deform_conv2d(x, offset, mask, weight, torch.zeros(1))
    expected = F.pad(x, (1, 0, 0, 2))[..., 2:, :6]
    assert torch.equal(out, expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_without_offsets_it_is_a_convolution(stride):
    x, offset, mask, weight, bias = operands(6, 7, stride, "zero")
    out = modulated_deform_conv2d(x, offset, torch.ones_like(mask), weight, bias, stride)
    torch.testing.assert_close(out, F.conv2d(x, weight, bias, stride, padding=1))


def test_images_of_a_batch_do_not_mix():
    x, offset, mask, weight, bias = operands(6, 7, 1, "far", batch=3)
    whole = modulated_deform_conv2d(x, offset, mask, weight, bias)
    for i in range(3):
        one = (t[i : i + 1] for t in (x, offset, mask))
        torch.testing.assert_close(whole[i : i + 1], modulated_deform_conv2d(*one, weight, bias))


@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_of_positions_change_nothing(monkeypatch, stride):
    """Blocks that end inside an image and inside a row."""
    tensors = operands(7, 10, stride, "far", batch=3)
    whole = modulated_deform_conv2d(*tensors, stride)
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", 9 * CHANNELS * 11)
    with torch.no_grad():
        torch.testing.assert_close(modulated_deform_conv2d(*tensors, stride), whole)


def test_operands_need_not_be_contiguous():
    x, offset, mask, weight, bias = (t.detach() for t in operands(6, 7, 1, "near"))
    both = torch.cat((offset, mask), dim=1)
    x_strided = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    strided = (x_strided, *both.split((18, 9), dim=1))
    torch.testing.assert_close(
        modulated_deform_conv2d(*strided, weight, bias),
        modulated_deform_conv2d(x, offset, mask, weight, bias),
    )


def test_bf16_autocast_is_finite_and_near_float32():
    tensors = operands(6, 7, 1, "near")
    expected = modulated_deform_conv2d(*tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = modulated_deform_conv2d(*tensors)
        with torch.no_grad():  # samples in bf16, too
            inference = modulated_deform_conv2d(*tensors)
    # Samples and kernel are rounded to 8 bits before the product.
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(inference.float(), expected, atol=0.05, rtol=0.05)
    for gradient in torch.autograd.grad(out.float().sum(), tensors):
        assert gradient.isfinite().all()


def test_group_norm_follows():
    torch.manual_seed(0)
    layer = DeformConvNorm(32, stride=2)
    assert layer.norm.num_groups == 16 and layer.norm.eps == 1e-5
    x, offset = torch.randn(2, 32, 5, 5), torch.randn(2, 18, 3, 3)
    mask = torch.rand(2, 9, 3, 3)
    raw = torchvision_form(x, offset, mask, layer.weight, layer.bias, 2)
    expected = F.group_norm(raw, 16, layer.norm.weight, layer.norm.bias, 1e-5)
    # The convolution's output is of size 0.01; normalizing enlarges its rounding.
    torch.testing.assert_close(layer(x, offset, mask), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stride", [1, 2])
def test_cuda_equals_cpu(stride):
    tensors = [t.detach() for t in operands(7, 10, stride, "near")]
    expected = modulated_deform_conv2d(*tensors, stride)
    on_device = [t.cuda() for t in tensors]
    actual = modulated_deform_conv2d(*on_device, stride)
    torch.testing.assert_close(actual.cpu(), expected, atol=1e-4, rtol=1e-4)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        mixed = modulated_deform_conv2d(*on_device, stride)
    # Samples and kernel are rounded to 8 bits; torchvision's operator works in float32.
    tolerance = 0.05 if mixed.dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(mixed.float().cpu(), expected, atol=tolerance, rtol=tolerance)
