"""The folded bi-directional attention against the official, unfolded form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glipv2_d2.modeling import blocks
from glipv2_d2.modeling.fusion import BiAttention, BiAttentionFusion

BATCH, POSITIONS, TOKENS, CHANNELS, TEXT = 2, 13, 7, 12, 10
HEADS, HEAD_CHANNELS = 3, 8


def unfolded(attention, visual, text, mask, drop_to_text=1.0, drop_to_image=1.0):
    """GLIP's BiMultiHeadAttention: the image projected to heads * head_channels, three times.

    `drop_*`: multiplied onto the attention weights (B, heads, N, T) and (B, heads, T, N).
    """

    def project(linear, x):  # (B, n, in) -> (B, heads, n, head_channels)
        return linear(x).unflatten(-1, (HEADS, HEAD_CHANNELS)).transpose(1, 2)

    def join(x):
        return x.transpose(1, 2).flatten(2)

    query = project(attention.v_proj, visual) * HEAD_CHANNELS**-0.5
    key = project(attention.l_proj, text)
    scores = (query @ key.transpose(-1, -2)).clamp(-50000, 50000)  # (B, heads, N, T)
    # The official code adds the mask itself: 1 on real tokens, -9e15 on padding.
    additive = mask.to(scores.dtype).masked_fill(~mask, -9e15)
    to_text = (scores + additive[:, None, None]).softmax(dim=-1) * drop_to_text
    transposed = scores.transpose(-1, -2)
    transposed = (transposed - transposed.amax(dim=-1, keepdim=True)).clamp(-50000, 50000)
    to_image = transposed.softmax(dim=-1) * drop_to_image
    delta_visual = attention.out_v_proj(join(to_text @ project(attention.values_l_proj, text)))
    delta_text = attention.out_l_proj(join(to_image @ project(attention.values_v_proj, visual)))
    return delta_visual, delta_text


def attention_and_inputs(dtype=torch.float32, dropout=0.0):
    torch.manual_seed(0)
    attention = BiAttention(CHANNELS, TEXT, HEADS, HEAD_CHANNELS, dropout)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.4)  # biases too, which start at 0
    visual = torch.randn(BATCH, POSITIONS, CHANNELS)
    text = torch.randn(BATCH, TOKENS, TEXT)
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    mask[1, 4:] = False
    return attention.to(dtype), visual.to(dtype), text.to(dtype), mask


def gradients(outputs, attention, inputs):
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(o.shape, generator=generator).to(o.dtype) for o in outputs]
    loss = sum((o * w).sum() for o, w in zip(outputs, weights))
    names = [*(n for n, _ in attention.named_parameters()), "visual", "text"]
    return dict(zip(names, torch.autograd.grad(loss, [*attention.parameters(), *inputs])))


def fixed_dropout(monkeypatch, probability):
    """Replaces F.dropout by two fixed masks; returns them as the unfolded form wants them."""
    generator = torch.Generator().manual_seed(2)
    shape = (BATCH, POSITIONS, HEADS, TOKENS)
    keep = [
        (torch.rand(shape, generator=generator) > probability) / (1 - probability) for _ in "ab"
    ]
    pending = list(keep)

    def dropout(x, p, training):
        assert p == probability and training
        return x * pending.pop(0).to(x.dtype)

    monkeypatch.setattr(F, "dropout", dropout)
    return keep[0].permute(0, 2, 1, 3), keep[1].permute(0, 2, 3, 1)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(
    "dtype, tolerance",
    # Sums of a few dozen terms of size 1: some 10 ulp of float32, and the algebra alone in float64.
    [(torch.float32, 1e-5), (torch.float64, 1e-12)],
)
def test_equals_the_unfolded_form(monkeypatch, dtype, tolerance, dropout):
    attention, visual, text, mask = attention_and_inputs(dtype, dropout)
    drops = fixed_dropout(monkeypatch, dropout) if dropout else (1.0, 1.0)
    inputs = (visual.requires_grad_(), text.requires_grad_())
    outputs = attention(visual, text, mask)
    expected = unfolded(attention, visual, text, mask, *drops)
    for output, reference in zip(outputs, expected):
        assert output.dtype == dtype
        assert reference.abs().max() > 0.5  # the tolerance means something
        torch.testing.assert_close(output, reference, atol=tolerance, rtol=tolerance)
    ours, theirs = gradients(outputs, attention, inputs), gradients(expected, attention, inputs)
    for name, reference in theirs.items():
        torch.testing.assert_close(
            ours[name],
            reference,
            atol=10 * tolerance,
            rtol=10 * tolerance,
            msg=lambda m, n=name: n + m,
        )
        assert reference.abs().max() > 1e-3, name


def test_dropout_is_off_in_evaluation():
    attention, *inputs = attention_and_inputs(dropout=0.9)
    torch.testing.assert_close(attention.eval()(*inputs), unfolded(attention, *inputs))
    assert not torch.allclose(attention.train()(*inputs)[0], unfolded(attention, *inputs)[0])


def test_padding_changes_no_real_token_and_no_position():
    attention, visual, text, _ = attention_and_inputs()
    fusion = BiAttentionFusion(CHANNELS, TEXT, HEADS, HEAD_CHANNELS, init_gamma=0.7).eval()
    fusion.attention = attention
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    junk = 100 * torch.randn(BATCH, 5, TEXT)
    padded_mask = F.pad(mask, (0, 5), value=False)
    expected = fusion(visual, text, mask)
    actual = fusion(visual, torch.cat((text, junk), dim=1), padded_mask)
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1][:, :TOKENS], expected[1])


def test_one_token_and_one_position():
    attention, visual, text, _ = attention_and_inputs()
    visual, text, mask = visual[:, :1], text[:, :1], torch.ones(BATCH, 1, dtype=torch.bool)
    torch.testing.assert_close(
        attention(visual, text, mask), unfolded(attention, visual, text, mask)
    )


def test_huge_scores_stay_finite():
    attention, visual, text, mask = attention_and_inputs()
    inputs = ((300 * visual).requires_grad_(), (300 * text).requires_grad_())
    outputs = attention(*inputs, mask)
    for tensor in (*outputs, *gradients(outputs, attention, inputs).values()):
        assert tensor.isfinite().all()


def test_bf16_autocast_is_finite_and_near_float32():
    attention, visual, text, mask = attention_and_inputs()
    inputs = (visual.requires_grad_(), text.requires_grad_())
    expected = attention(*inputs, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = attention(*inputs, mask)
        with torch.no_grad():
            inference = attention(*inputs, mask)
    for output, reference in zip((*outputs, *inference), (*expected, *expected)):
        # Eight bits of mantissa, and scores of size 5 in an exponential: a few percent.
        torch.testing.assert_close(output.float(), reference, atol=0.15, rtol=0.05)
    for name, gradient in gradients(outputs, attention, inputs).items():
        assert gradient.isfinite().all(), name


def test_training_takes_both_softmaxes_in_float32_under_autocast(monkeypatch):
    seen = []

    def spy(name):
        original = getattr(torch.Tensor, name)

        def call(x, *args, **kwargs):
            seen.append((name, x.dtype))
            return original(x, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, call)

    spy("softmax")  # over the tokens
    spy("exp_")  # over the positions
    attention, visual, text, mask = attention_and_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention(visual, text, mask)
        with torch.no_grad():
            attention(visual, text, mask)
    training = [("softmax", torch.float32), ("exp_", torch.float32)]
    assert seen == [*training, ("softmax", torch.bfloat16), ("exp_", torch.bfloat16)]


@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("rows", [1, 5])
def test_blocks_of_positions_change_nothing(monkeypatch, rows, scale):
    """`rows` positions at once, with scores that grow from block to block and that fall."""
    attention, visual, text, mask = attention_and_inputs(torch.float64)
    growth = torch.linspace(0.1, scale, POSITIONS, dtype=torch.float64)[:, None]
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", BATCH * HEADS * TOKENS * rows)
    for factor in (growth, growth.flip(0)):
        inputs = (visual * factor, text, mask)
        whole = attention(*inputs)
        with torch.no_grad():
            assert blocks.block_rows(visual, HEADS * TOKENS) == rows
            torch.testing.assert_close(attention(*inputs), whole, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(whole, unfolded(attention, *inputs), atol=1e-9, rtol=1e-9)


def test_residual_is_taken_from_the_normalized_inputs():
    attention, visual, text, mask = attention_and_inputs()
    fusion = BiAttentionFusion(CHANNELS, TEXT, HEADS, HEAD_CHANNELS, init_gamma=0.25).eval()
    fusion.attention = attention
    nn.init.normal_(fusion.norm_v.weight)
    nn.init.normal_(fusion.gamma_l)
    # So small that LayerNorm's epsilon (1e-5, unlike BERT's 1e-12) matters.
    visual, text = 3e-3 * visual, 3e-3 * text + 1
    v = F.layer_norm(visual, (CHANNELS,), fusion.norm_v.weight, fusion.norm_v.bias, 1e-5)
    t = F.layer_norm(text, (TEXT,), fusion.norm_l.weight, fusion.norm_l.bias, 1e-5)
    delta_v, delta_t = unfolded(attention, v, t, mask)
    actual = fusion(visual, text, mask)
    torch.testing.assert_close(actual, (v + 0.25 * delta_v, t + fusion.gamma_l * delta_t))


def test_drop_path_drops_the_update_in_training_only():
    attention, visual, text, mask = attention_and_inputs()
    fusion = BiAttentionFusion(CHANNELS, TEXT, HEADS, HEAD_CHANNELS, dropout=0.0, drop_path=1.0)
    dropped = fusion.train()(visual, text, mask)
    torch.testing.assert_close(dropped, (fusion.norm_v(visual), fusion.norm_l(text)))
    assert not torch.allclose(fusion.eval()(visual, text, mask)[0], dropped[0])
