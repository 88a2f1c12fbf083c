"""The kernels that merge a level against PyTorch's operators; on CPU by Triton's interpreter."""

import pytest
import torch

from glipv2_d2.modeling.fusion import DynamicConv, dyhead
from tests.support.triton_kernels import (
    CHANNELS,
    CLOSE,
    DEVICES,
    IMAGES,
    INTERPRETED,
    SIZES,
    assert_same_gradients,
    on_cuda,
    resized,
    tensors,
)  # fmt: skip


def kernels():
    from glipv2_d2.modeling.fusion import merge_kernels  # needs Triton

    return merge_kernels


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch):
    """The interpreter takes milliseconds for each; several positions of each, too."""
    if INTERPRETED:
        monkeypatch.setattr(kernels(), "PARTS", 3)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size, smaller", SIZES)
@pytest.mark.parametrize("branches", ["mid", "mid low", "mid high", "mid low high"])
def test_merging(device, size, smaller, branches):
    names = branches.split()
    per_map = [IMAGES, CHANNELS]
    maps = tensors(device, *([*per_map, *(smaller if n == "high" else size)] for n in names))
    scales, shift, lines = tensors(device, [len(names), *per_map], per_map, [4, *per_map])
    given = dict(zip(names, maps))
    found = kernels().merge_level(
        given["mid"], given.get("low"), given.get("high"), scales, shift, lines
    )
    y = sum(resized(x, size) * a[..., None, None] for x, a in zip(maps, scales))
    y = y + shift[..., None, None]
    p1, q1, p2, q2 = lines[..., None, None]
    expected = torch.maximum(p1 * y + q1, p2 * y + q2)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert_same_gradients([found], [expected], [*maps, scales, shift, lines])


def block(rule):
    torch.manual_seed(0)
    made = DynamicConv(32, rule)
    for parameter in made.parameters():  # all of it matters
        torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rule", ["resized", "raw_memory"])
def test_a_whole_block(device, rule, monkeypatch):
    """With the kernels of the deformable convolution, forward and backward."""
    made = block(rule).to(device)
    levels = tensors(device, *([1, 32, *size] for size in ((6, 9), (3, 5), (2, 3))))
    monkeypatch.setattr(dyhead, "runs_kernels", lambda x: False)
    expected = made(levels)
    monkeypatch.setattr(dyhead, "runs_kernels", lambda x: True)
    found = made(levels)
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y, **CLOSE)
    weights = [torch.ones_like(x) for x in expected]
    operands = [*levels, *made.parameters()]
    for x, y in zip(
        torch.autograd.grad(found, operands, weights),
        torch.autograd.grad(expected, operands, weights),
    ):
        # Relative to the largest: through a chain of six layers small ones are differences.
        assert (x - y).abs().max() <= 1e-4 * y.abs().max()


@pytest.mark.parametrize("device", DEVICES)
def test_a_block_in_half_precision(device, monkeypatch):
    made = block("raw_memory").to(device)
    levels = [x.detach() for x in tensors(device, *([1, 32, *size] for size in ((4, 5), (2, 3))))]
    with torch.no_grad():
        expected = made(levels)
        monkeypatch.setattr(dyhead, "runs_kernels", lambda x: True)
        found = made.bfloat16()([x.bfloat16() for x in levels])
    for x, y in zip(found, expected):
        assert x.dtype == torch.bfloat16
        assert (x.float() - y).norm() <= 0.05 * y.norm()  # of 8 bits, through a chain of layers


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=on_cuda)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_whole_block_under_autocast(device, dtype, monkeypatch):
    made = block("raw_memory").to(device)
    levels = tensors(device, *([2, 32, *size] for size in ((50, 76), (25, 38), (13, 19))))
    with torch.no_grad(), torch.autocast(device, dtype=dtype):
        found = made(levels)
        monkeypatch.setattr(dyhead, "runs_kernels", lambda x: False)
        expected = made(levels)
    with torch.no_grad():
        exact = made(levels)
    for x, y, z in zip(found, expected, exact):
        assert x.dtype == torch.float32
        # As near to float32 as the operators of PyTorch are.
        assert (x - z).norm() <= 1.2 * (y - z).norm()
