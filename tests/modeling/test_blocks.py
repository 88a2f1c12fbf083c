"""The leaner forms: where no gradient is recorded, and what they give."""

import pytest
import torch

from glipv2_d2.modeling import blocks
from glipv2_d2.modeling.blocks import block_rows, inference_dtype, records_gradients
from glipv2_d2.modeling.fusion import BiAttention

PLAIN, TRAINED = torch.zeros(2, 1000, 4), torch.zeros(3, requires_grad=True)


def test_gradients_are_recorded_for_what_needs_them():
    assert not records_gradients(PLAIN) and records_gradients(PLAIN, TRAINED)
    with torch.no_grad():
        assert not records_gradients(TRAINED)


def test_blocks_where_no_gradient_is_recorded(monkeypatch):
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", 1000)
    assert block_rows(PLAIN, 5) == 100  # of two images 5 values each
    assert block_rows(PLAIN, 5, TRAINED) == 1000
    assert block_rows(PLAIN, 10_000) == 1
    with torch.no_grad():
        assert block_rows(PLAIN, 5, TRAINED) == 100


def test_the_precision_of_inference_is_autocasts():
    half = PLAIN.bfloat16()
    assert inference_dtype(PLAIN, TRAINED) == torch.float32
    assert (
        inference_dtype(half) == torch.bfloat16 and inference_dtype(PLAIN.double()) == torch.double
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert inference_dtype(PLAIN) == torch.bfloat16
        assert inference_dtype(half, TRAINED) == torch.float32


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_layer_works_in_blocks_also_in_training(monkeypatch, frozen):
    """Gradients are on, and nothing here needs one."""
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", 1000)
    layer = BiAttention(8, 6, num_heads=2, head_channels=4, dropout=0.0)
    layer.requires_grad_(not frozen)
    visual, text, mask = torch.randn(1, 300, 8), torch.randn(1, 5, 6), torch.ones(1, 5).bool()
    rows, original = [], torch.Tensor.softmax
    monkeypatch.setattr(
        torch.Tensor, "softmax", lambda x, **dim: rows.append(len(x[0])) or original(x, **dim)
    )
    found = layer(visual, text, mask)
    assert rows == ([100, 100, 100] if frozen else [300])
    with torch.no_grad():
        expected = layer(visual, text, mask)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
