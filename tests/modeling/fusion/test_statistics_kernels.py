"""The kernels of each channel's statistics against PyTorch's operators."""

import pytest
import torch

from tests.support.triton_kernels import (
    CHANNELS,
    CLOSE,
    DEVICES,
    IMAGES,
    INTERPRETED,
    SIZES,
    assert_same_gradients,
    resized,
    tensors,
)  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size, smaller", SIZES)
def test_statistics(device, size, smaller, monkeypatch):
    from glipv2_d2.modeling.fusion import statistics_kernels  # needs Triton

    if INTERPRETED:
        monkeypatch.setattr(statistics_kernels, "PARTS", 3)
    maps = tensors(device, *([IMAGES, CHANNELS, *s] for s in (size, size, smaller)))
    shifted = [x + 3 for x in maps]
    found = statistics_kernels.channel_statistics(shifted, [size] * 3)
    expected = (
        torch.stack([x.mean((2, 3)) for x in shifted]),
        torch.stack([x.var((2, 3), unbiased=False) for x in shifted]),
        torch.stack([resized(x, size).mean((2, 3)) for x in shifted]),
    )
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y, **CLOSE)
    assert_same_gradients(found, expected, maps)
