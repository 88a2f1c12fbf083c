"""The hourglass against a plain functional form, and its sizes in the paper."""

import pytest
import torch
import torch.nn.functional as F

from glipv2_d2.modeling.heads import StackedHourglass
from glipv2_d2.modeling.heads.hourglass import Residual
from tests.support.parameter_counts import hourglass as hourglass_parameters


def residual(x, unit):
    out = x
    for conv in (unit.conv1, unit.conv2, unit.conv3):
        out = F.conv2d(out.clamp(min=0), conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2)
    return x + out


def normalized(x, norm):
    """By group of 1 / 32 of the channels, `norm`'s weight and bias last; None: as it is."""
    if not isinstance(norm, torch.nn.GroupNorm):
        return x
    groups = x.unflatten(1, (32, -1)).flatten(2)
    variance, mean = torch.var_mean(groups, dim=2, keepdim=True, unbiased=False)
    x = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    return x * norm.weight[:, None, None] + norm.bias[:, None, None]


def hourglass(x, module, num_scales):
    height, width = x.shape[-2:]
    low = residual(F.max_pool2d(x, 2), module.enter)
    if num_scales > 1:
        low = hourglass(low, module.inner, num_scales - 1)
    else:
        low = residual(low, module.inner)
    low = residual(low, module.leave)
    # Nearest: the pixel of the smaller map at floor(position * small / large).
    rows = torch.arange(height) * low.shape[-2] // height
    columns = torch.arange(width) * low.shape[-1] // width
    return residual(x, module.full) + low[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize(
    "num_scales, num_layers, size, norm",
    [(1, 1, 14, ""), (2, 3, 14, ""), (1, 2, 7, ""), (2, 3, 14, "GN")],
)
def test_equals_the_plain_form(num_scales, num_layers, size, norm):
    torch.manual_seed(0)
    channels = 64 if norm else 8
    module = StackedHourglass(
        in_channels=6, channels=channels, num_scales=num_scales, num_layers=num_layers, norm=norm
    )
    for parameter in module.parameters():  # also those that begin at 0
        torch.nn.init.normal_(parameter, std=0.1)
    # Float64: norms of groups that vary little enlarge the rounding of float32.
    module, x = module.double(), torch.randn(2, 6, size, size + 1).double()
    expected = F.conv2d(x, module.reduce.weight, module.reduce.bias)
    for layer, after in zip(module.layers, module.norms):
        expected = normalized(hourglass(expected, layer, num_scales), after).clamp(min=0)
    assert expected.shape == (2, channels, size, size + 1)
    torch.testing.assert_close(module(x), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    "sizes",
    [
        {"in_channels": 256, "channels": 256, "num_scales": 1, "num_layers": 1},  # T and B
        {"in_channels": 256, "channels": 384, "num_scales": 2, "num_layers": 4, "norm": "GN"},
    ],
    ids=["T and B", "H"],
)
def test_sizes_of_the_paper(sizes):
    with torch.device("meta"):
        module = StackedHourglass(**sizes)
    assert sum(p.numel() for p in module.parameters()) == hourglass_parameters(*sizes.values())


@pytest.mark.parametrize("norm", ["", "GN"])
def test_no_regions_still_reach_every_parameter(norm):
    module = StackedHourglass(in_channels=4, channels=64, num_scales=2, norm=norm)
    out = module(torch.zeros(0, 4, 14, 14))
    assert out.shape == (0, 64, 14, 14)
    out.sum().backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())


def test_normalized_hourglasses_begin_as_sums_of_what_comes_in():
    """Of each scale, once normalized; every unit can leave that."""
    torch.manual_seed(0)
    module = StackedHourglass(in_channels=64, channels=64, num_scales=2, num_layers=2, norm="GN")
    assert sum(isinstance(part, torch.nn.GroupNorm) for part in module.modules()) == 2
    x = expected = torch.randn(2, 64, 8, 8)
    for norm in module.norms:
        half = F.max_pool2d(expected, 2)
        half = half + F.max_pool2d(half, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = expected + half.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = normalized(expected, norm).clamp(min=0)
    found = module(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.square().sum().backward()
    units = [part for part in module.modules() if isinstance(part, Residual)]
    assert len(units) == 2 * 7 and all(unit.conv3.weight.grad.any() for unit in units)


def test_without_normalization_nothing_but_the_units_has_parameters():
    """Heads that were trained without it find all of their names."""
    module = StackedHourglass(in_channels=8, channels=8, num_layers=2)
    units = ("full", "enter", "inner", "leave")
    assert {tuple(name.split(".")[:3]) for name in module.state_dict()} == {
        ("layers", str(layer), unit) for layer in range(2) for unit in units
    }


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_scales": 0}, "at least 1, got 0 and 1"),
        ({"num_layers": 0}, "at least 1, got 1 and 0"),
        ({"channels": 7}, "halved inside, got 7"),
        ({"norm": "XX"}, "'XX' is none of Detectron2's normalizations"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StackedHourglass(in_channels=4, **{"channels": 8, **options})
