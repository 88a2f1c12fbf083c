"""Both softmaxes in one pass against PyTorch's; on CPU by Triton's interpreter."""

import pytest
import torch

from glipv2_d2.modeling.fusion import bi_attention
from glipv2_d2.modeling.fusion.bi_attention import BiAttention
from tests.support.triton_kernels import DEVICES


def scores(tokens, dtype, device):
    """Of 2 images, 301 positions, 4 heads; with a padded token."""
    generator = torch.Generator().manual_seed(tokens)
    values = (3 * torch.randn(2, 301, 4, tokens, generator=generator)).to(dtype)
    bias = torch.randn(2, 1, 4, tokens, generator=generator).to(dtype)
    bias[1, :, :, -1] = float("-inf")
    return values.to(device), bias.to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [3, 16, 37])
def test_both_softmaxes(device, dtype, tokens):
    from glipv2_d2.modeling.fusion.attention_kernels import both_softmaxes  # needs Triton

    values, bias = scores(tokens, dtype, device)
    peak = values.flatten(2).amax(dim=1, keepdim=True)
    to_text = (values.float() + bias.float()).softmax(dim=-1)
    weights = (values.float() - peak.float().unflatten(2, (4, tokens))).exp()
    found, total = both_softmaxes(values, bias, peak)
    # Rounded once, at the end; bf16 has 8 bits.
    close = {"atol": 1e-6, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0, "rtol": 2**-7}
    torch.testing.assert_close(found.float(), to_text, **close)
    torch.testing.assert_close(values.float(), weights, **close)  # in place
    torch.testing.assert_close(
        total, values.float().flatten(2).sum(dim=1, keepdim=True), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("device", DEVICES)
def test_a_whole_layer(device, monkeypatch):
    torch.manual_seed(0)
    layer = (
        BiAttention(channels=12, text_channels=8, num_heads=4, head_channels=6).eval().to(device)
    )
    visual = torch.randn(2, 77, 12, device=device)
    text, mask = torch.randn(2, 5, 8, device=device), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    with torch.no_grad():
        monkeypatch.setattr(bi_attention, "runs_kernels", lambda x: False)
        expected = layer(visual, text, mask.to(device))
        monkeypatch.setattr(bi_attention, "runs_kernels", lambda x: True)
        found = layer(visual, text, mask.to(device))
    for x, y in zip(found, expected):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)  # other orders of float32 sums
