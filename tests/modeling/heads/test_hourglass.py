"""The hourglass against a plain functional form, and its sizes in the paper."""

import pytest
import torch
import torch.nn.functional as F

from glipv2_d2.modeling.heads import StackedHourglass


def residual(x, unit):
    out = x
    for conv in (unit.conv1, unit.conv2, unit.conv3):
        out = F.conv2d(out.clamp(min=0), conv.weight, conv.bias, padding=conv.weight.shape[-1] // 2)
    return x + out


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


@pytest.mark.parametrize("num_scales, num_layers, size", [(1, 1, 14), (2, 3, 14), (1, 2, 7)])
def test_equals_the_plain_form(num_scales, num_layers, size):
    torch.manual_seed(0)
    module = StackedHourglass(
        in_channels=6, channels=8, num_scales=num_scales, num_layers=num_layers
    )
    x = torch.randn(2, 6, size, size + 1)
    expected = F.conv2d(x, module.reduce.weight, module.reduce.bias)
    for layer in module.layers:
        expected = hourglass(expected, layer, num_scales).clamp(min=0)
    assert expected.shape == (2, 8, size, size + 1)
    # Float32 sums in another order.
    torch.testing.assert_close(module(x), expected, atol=1e-5, rtol=1e-5)


# A residual unit of C channels: C/2 inside, 1x1, 3x3, 1x1, with biases.
def unit(c):
    return (c * c // 2 + c // 2) + (9 * c * c // 4 + c // 2) + (c * c // 2 + c)


@pytest.mark.parametrize(
    "in_channels, channels, scales, layers, expected",
    [
        (256, 256, 1, 1, 4 * unit(256)),  # T and B; no projection in front
        # An hourglass of two scales holds another one in place of a unit: 3 + 4 units.
        (256, 384, 2, 4, 4 * 7 * unit(384) + 256 * 384 + 384),  # H
    ],
    ids=["T and B", "H"],
)
def test_sizes_of_the_paper(in_channels, channels, scales, layers, expected):
    with torch.device("meta"):
        module = StackedHourglass(
            in_channels=in_channels, channels=channels, num_scales=scales, num_layers=layers
        )
    assert sum(p.numel() for p in module.parameters()) == expected


def test_no_regions_still_reach_every_parameter():
    module = StackedHourglass(in_channels=4, channels=8, num_scales=2)
    out = module(torch.zeros(0, 4, 14, 14))
    assert out.shape == (0, 8, 14, 14)
    out.sum().backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())


def test_normalisation_replaces_the_biases():
    module = StackedHourglass(in_channels=64, channels=64, norm="GN")
    norms = [m for m in module.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert len(norms) == 12  # three convolutions in each of four units
    assert module.layers[0].full.conv1.bias is None
    assert module(torch.randn(1, 64, 8, 8)).isfinite().all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_scales": 0}, "at least 1, got 0 and 1"),
        ({"num_layers": 0}, "at least 1, got 1 and 0"),
        ({"channels": 7}, "halved inside, got 7"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StackedHourglass(in_channels=4, **{"channels": 8, **options})
