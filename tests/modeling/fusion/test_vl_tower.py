"""The fusion tower: its text layer is BERT's, padding is inert, checkpointing changes nothing."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, CLIPTextConfig
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from glipv2_d2.modeling.fusion import VLTower
from glipv2_d2.modeling.fusion.vl_tower import WAVES, places_of, text_layer
from glipv2_d2.modeling.text import TextFeatures
from glipv2_d2.modeling.text.attention import KeyValueCache, visible_words

CHANNELS, TEXT, HEADS, FFN, TOKENS = 16, 12, 3, 20, 6
SIZES = ((4, 6), (2, 3), (1, 2))


def tower(**options):
    torch.manual_seed(0)
    arguments = {
        "num_blocks": 2,
        "channels": CHANNELS,
        "text_channels": TEXT,
        "fusion_heads": 2,
        "fusion_head_channels": 8,
        "text_heads": HEADS,
        "text_ffn_channels": FFN,
        "dropout": 0.0,
    }
    result = VLTower(**{**arguments, **options})
    for block in result.blocks:
        nn.init.normal_(block.dynamic_conv.offset.weight, std=0.1)
    return result


def inputs(real=(TOKENS, 4)):
    torch.manual_seed(1)
    features = [torch.randn(2, CHANNELS, h, w) for h, w in SIZES]
    mask = torch.arange(TOKENS) < torch.tensor(real)[:, None]
    hidden = torch.randn(2, TOKENS, TEXT)
    return features, TextFeatures(hidden, torch.full_like(hidden, torch.nan), mask)


def bert_layer(ours):
    """transformers' layer with the weights of ours."""
    config = BertConfig(
        hidden_size=TEXT, num_attention_heads=HEADS, intermediate_size=FFN,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    assert config.layer_norm_eps == 1e-12 and config.hidden_act == "gelu"
    layer = BertLayer(config).eval()
    pairs = [
        (layer.attention.output.dense, ours.self_attn.out_proj),
        (layer.attention.output.LayerNorm, ours.norm1),
        (layer.intermediate.dense, ours.linear1),
        (layer.output.dense, ours.linear2),
        (layer.output.LayerNorm, ours.norm2),
    ]
    for theirs, mine in pairs:
        theirs.load_state_dict(mine.state_dict())
    own = layer.attention.self
    weights = ours.self_attn.in_proj_weight.chunk(3), ours.self_attn.in_proj_bias.chunk(3)
    for linear, weight, bias in zip((own.query, own.key, own.value), *weights):
        linear.load_state_dict({"weight": weight, "bias": bias})
    return layer


# The second scale lets LayerNorm's epsilon decide: the variance of the rows is about 1e-10.
@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("gradients", [True, False])
def test_text_layer_is_berts(scale, gradients):
    torch.manual_seed(0)
    ours = text_layer(TEXT, HEADS, FFN, dropout=0.1).eval()
    for name, parameter in ours.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.5 * scale)
    nn.init.normal_(ours.norm1.weight), nn.init.normal_(ours.norm1.bias)
    _, text = inputs()
    x = text.hidden * scale
    theirs = bert_layer(ours)
    additive = torch.zeros(2, 1, 1, TOKENS).masked_fill(~text.mask[:, None, None], -1e30)
    with torch.set_grad_enabled(gradients):
        expected = theirs(x, attention_mask=additive)
        expected = expected[0] if isinstance(expected, tuple) else expected
        actual = ours(x, visible_words(text.mask))
    # The outputs are LayerNorm's, of size 1; what padding holds is of no meaning.
    torch.testing.assert_close(actual[text.mask], expected[text.mask], atol=1e-5, rtol=1e-4)


def test_text_layer_drops_where_bert_does():
    """Of the attention's weights and of both updates; not inside the feed-forward."""
    layer = text_layer(TEXT, HEADS, FFN, dropout=0.3)
    assert layer.self_attn.dropout == layer.dropout.p == 0.3
    dropped = []
    layer.dropout.register_forward_hook(lambda _, inputs, __: dropped.append(inputs[0].shape[-1]))
    layer.train()(torch.randn(2, TOKENS, TEXT), visible_words(torch.ones(2, TOKENS).bool()))
    assert dropped == [TEXT, TEXT]


def test_pre_norm_text_layer_is_clips():
    """transformers' layer with the weights of ours; padded words are not looked at."""
    torch.manual_seed(0)
    ours = text_layer(TEXT, HEADS, FFN, dropout=0.1, norm="pre").train()  # CLIP has no dropout
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    config = CLIPTextConfig(
        hidden_size=TEXT, num_attention_heads=HEADS, intermediate_size=FFN, layer_norm_eps=1e-12,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = CLIPEncoderLayer(config).eval()
    attention = theirs.self_attn
    pairs = [
        (attention.out_proj, ours.self_attn.out_proj),
        (theirs.layer_norm1, ours.norm1),
        (theirs.layer_norm2, ours.norm2),
        (theirs.mlp.fc1, ours.linear1),
        (theirs.mlp.fc2, ours.linear2),
    ]
    for module, mine in pairs:
        module.load_state_dict(mine.state_dict())
    weights = ours.self_attn.in_proj_weight.chunk(3), ours.self_attn.in_proj_bias.chunk(3)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    for linear, weight, bias in zip(projections, *weights):
        linear.load_state_dict({"weight": weight, "bias": bias})
    _, text = inputs()
    for row, count in enumerate(text.mask.sum(1).tolist()):
        words = text.hidden[row : row + 1, :count]
        expected = theirs(words, torch.zeros(1, 1, count, count))
        expected = expected[0] if isinstance(expected, tuple) else expected
        actual = ours(text.hidden, visible_words(text.mask))[row : row + 1, :count]
        # Sums of some tens of products in another order; values up to about 10.
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_unknown_norm():
    with pytest.raises(ValueError, match="text_norm='middle' is neither 'post'.* nor 'pre'"):
        tower(text_norm="middle")


def test_block_order_is_fusion_then_text_then_image():
    model = tower().eval()
    features, text = inputs()
    out, words = model(features, text)
    expected, expected_words = features, text.hidden
    for block in model.blocks:
        flat = torch.cat([f.flatten(2) for f in expected], dim=2).transpose(1, 2)
        flat, expected_words = block.fusion(flat, expected_words, text.mask)
        expected_words = block.text_layer(expected_words, visible_words(text.mask))
        expected, start = [], 0
        for h, w in SIZES:
            part = flat[:, start : start + h * w].transpose(1, 2).reshape(2, CHANNELS, h, w)
            expected.append(part)
            start += h * w
        expected = block.dynamic_conv(expected)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(words, expected_words)
    assert [tuple(f.shape) for f in out] == [(2, CHANNELS, h, w) for h, w in SIZES]


def told_places(**options):
    """A tower whose words read places, as after some training."""
    model = tower(positions=True, **options)
    for block in model.blocks:
        nn.init.normal_(block.fusion.positions.weight, std=0.3)
    return model


def test_positions_are_all_that_is_new():
    """Weights of a model that knows no places fit, and are that model where positions are zero."""
    plain, model = tower().eval(), tower(positions=True).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert missing == [f"blocks.{i}.fusion.positions.weight" for i in (0, 1)] and not unexpected
    assert not torch.allclose(model(*inputs())[1], plain(*inputs())[1], atol=1e-3)
    for block in model.blocks:
        nn.init.zeros_(block.fusion.positions.weight)
    for ours, theirs in zip(model(*inputs()), plain(*inputs())):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_words_read_where_a_thing_is():
    """One thing on a plain ground: without positions, and without what convolutions see of the
    edges, the words are the same wherever it is."""
    _, text = inputs()
    ground = [torch.zeros(2, CHANNELS, 8, 8)]
    left, right = ground[0].clone(), ground[0].clone()
    left[:, :, 3, 2] = right[:, :, 3, 5] = torch.randn(CHANNELS)
    for model, told in ((tower(num_blocks=1), False), (told_places(num_blocks=1), True)):
        words = [model.eval()([image], text)[1][text.mask] for image in (left, right)]
        # Sums of 64 positions in another order.
        assert torch.allclose(*words, atol=1e-5) is not told


@pytest.mark.parametrize("extra", [(0, 3), (2, 0)])
def test_places_are_of_the_image_and_not_of_its_padding(extra):
    rows, columns = extra
    plain = [torch.zeros(1, 1, h, w) for h, w in ((4, 6), (2, 3))]
    padded = [F.pad(f, (0, columns, 0, rows)) for f in plain]
    for level, other in zip(by_level(plain), by_level(padded)):
        assert torch.equal(level, other[: level.shape[0], : level.shape[1]])


def by_level(features):
    sizes = [f.shape[-2:] for f in features]
    places = places_of(features).split([h * w for h, w in sizes])
    return [level.unflatten(0, size) for level, size in zip(places, sizes)]


def test_a_coarse_cell_lies_between_its_fine_ones():
    fine, coarse = by_level([torch.zeros(1, 1, 4, 6), torch.zeros(1, 1, 2, 3)])
    # The longest waves are nearly straight: 1,024 cells for four.
    between = (fine[0:2, 2:4, WAVES - 1] + fine[0:2, 2:4, 2 * WAVES - 1]).mean()
    expected = coarse[0, 1, WAVES - 1] + coarse[0, 1, 2 * WAVES - 1]
    torch.testing.assert_close(between, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("recomputes", [False, True])
def test_positions_in_every_way_through_the_tower(recomputes):
    """Causal texts read token by token what `forward` gives at once, recomputed or not."""
    model = told_places(use_checkpoint=recomputes)
    features, text = inputs(real=(TOKENS, TOKENS))
    unseen = replace(text, causal=torch.ones(2).bool(), seen_by_image=torch.zeros(2).bool())
    _, at_once = model.train(recomputes)(features, unseen)
    model.eval()
    cache, words = KeyValueCache(), []
    images = model.read_images(features)
    for token in text.hidden.split(1, dim=1):
        words.append(model.read_on(token, images, cache))
    torch.testing.assert_close(torch.cat(words, dim=1), at_once, atol=1e-5, rtol=1e-4)


def test_fusion_starts_at_one_over_the_number_of_blocks():
    for blocks in (2, 4):
        model = tower(num_blocks=blocks)
        for block in model.blocks:
            assert (block.fusion.gamma_v == 1 / blocks).all()
            assert (block.fusion.gamma_l == 1 / blocks).all()


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_padding_is_inert(mode, norm):
    """A longer padding, full of junk, changes neither the image nor a real token."""
    model = tower(text_norm=norm).train(mode == "train")
    features, text = inputs()
    with torch.set_grad_enabled(mode != "no_grad"):
        expected, expected_words = model(features, text)
        padded = TextFeatures(
            F.pad(text.hidden, (0, 0, 0, 3), value=7.0), text.embedded, F.pad(text.mask, (0, 3))
        )
        out, words = model(features, padded)
    # GroupNorm on maps of two positions enlarges rounding.
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        words[:, :TOKENS][text.mask], expected_words[text.mask], atol=1e-5, rtol=1e-4
    )


def test_the_mask_matters():
    model = tower().eval()
    features, text = inputs()
    everything = TextFeatures(text.hidden, text.embedded, torch.ones_like(text.mask))
    masked, unmasked = model(features, text)[0][0], model(features, everything)[0][0]
    assert torch.allclose(masked[0], unmasked[0], atol=1e-5)  # the first prompt has no padding
    assert not torch.allclose(masked[1], unmasked[1], atol=1e-3)


def test_checkpointing_gives_identical_losses_and_gradients():
    """With dropout on: the recomputation must draw the same random numbers."""
    features, text = inputs()
    results = []
    for use_checkpoint in (False, True):
        model = tower(use_checkpoint=use_checkpoint, dropout=0.2).train()
        levels = [f.clone().requires_grad_() for f in features]
        torch.manual_seed(5)
        out, words = model(levels, text)
        loss = (
            sum(level.square().sum() for level in out) + (words * text.mask[..., None]).pow(3).sum()
        )
        gradients = torch.autograd.grad(loss, [*model.parameters(), *levels])
        results.append((loss.detach(), *gradients))
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert results[0][1].abs().max() > 0


def test_checkpointing_recomputes_where_gradients_are_handed_on(monkeypatch):
    from glipv2_d2.modeling.fusion import vl_tower

    calls = []
    original = vl_tower.checkpoint
    monkeypatch.setattr(
        vl_tower, "checkpoint", lambda *a, **k: (calls.append(1), original(*a, **k))[1]
    )
    model = tower(use_checkpoint=True)
    model.eval()(*inputs())
    assert not calls
    features, text = inputs()
    text.hidden.requires_grad_()  # a prompt that is tuned, through a frozen tower
    model(features, text)
    assert len(calls) == 2
    calls.clear()
    model.train()(*inputs())
    assert len(calls) == 2
