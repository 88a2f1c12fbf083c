"""The text transformer of CLIP's kind: CLIP itself where it is causal, else bidirectional."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from glipv2_d2.checkpoint.formats.clip import resize_positions
from glipv2_d2.errors import CheckpointError, ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.language.pretrained_names import clip_folder
from glipv2_d2.modeling import LANGUAGE_BACKBONE_REGISTRY, ClipLanguageBackbone
from glipv2_d2.modeling.text import TextFeatures, clip_text
from glipv2_d2.modeling.text.attention import visible_words
from tests.support.tiny_clip import DIMENSIONS, tiny_clip

CAPTIONS = ("a red kite above the sea", "dog", "two skateboarders, jumping")


@pytest.fixture(scope="module")
def clip_encoder():
    return tiny_clip().eval()


@pytest.fixture(scope="module")
def theirs():
    """transformers' CLIP text model of the same size, with as many positions as ours."""
    return transformers_clip()


def transformers_clip(**options):
    torch.manual_seed(1)
    model = CLIPTextModel(
        CLIPTextConfig(
            **{
                "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
                "intermediate_size": 64, "max_position_embeddings": 24, **options,
            },
        )
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def save(model, folder):
    """As on the hub: with the tokenizer."""
    model.save_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((type(folder)(clip_folder()) / name).read_bytes())
    return str(folder)


def tokens(backbone, *captions):
    return backbone.tokenizer([Prompt.from_classes([c]) for c in captions])


def test_features(clip_encoder):
    batch = tokens(clip_encoder, *CAPTIONS)
    features = clip_encoder(batch)
    assert isinstance(features, TextFeatures) and clip_encoder.out_channels == 16
    assert features.hidden.shape == (3, 8, 16) == features.embedded.shape
    assert features.mask.sum(1).tolist() == [8, 3, 8]
    assert torch.equal(features.hidden[batch.mask], features.embedded[batch.mask])
    assert not features.embedded[~batch.mask].any()


@pytest.mark.parametrize("gradients", [True, False])
def test_causal_is_transformers_clip(theirs, tmp_path, gradients):
    """The same weights through our names: every token of a padded batch is CLIP's."""
    ours = ClipLanguageBackbone(
        model=save(theirs, tmp_path), layer_norm_eps=1e-5, **DIMENSIONS
    ).eval()
    assert ours.pretrained == str(tmp_path)
    batch = tokens(ours, *CAPTIONS)
    with torch.set_grad_enabled(gradients):
        expected = theirs(input_ids=batch.input_ids, attention_mask=batch.mask.long())
        actual = ours(replace(batch, causal=torch.ones(3, dtype=torch.bool)))
    # Two layers of float32; features of about 1.
    torch.testing.assert_close(
        actual.hidden[batch.mask], expected.last_hidden_state[batch.mask], atol=1e-5, rtol=1e-4
    )


def test_every_norm_has_the_epsilon(clip_encoder):
    """What is normalized last is large: no result would show it."""
    other = tiny_clip(layer_norm_eps=3e-3)
    for model, expected in ((clip_encoder, 1e-12), (other, 3e-3)):
        assert {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)} == {expected}


def test_a_naive_bidirectional_layer(clip_encoder):
    """One layer by hand, for one prompt: quick GELU, pre-LayerNorm, every word sees every word."""
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(2))
    layer = clip_encoder.layers[0]

    def norm(v, module):
        v = v - v.mean(-1, keepdim=True)
        return v / (v.square().mean(-1, keepdim=True) + 1e-12).sqrt() * module.weight + module.bias

    heads = []
    projected = norm(x, layer.norm1) @ layer.self_attn.in_proj_weight.T
    q, k, v = (projected + layer.self_attn.in_proj_bias).chunk(3, dim=-1)
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        weights = (q[..., part] @ k[..., part].mT / 8**0.5).softmax(dim=-1)
        heads.append(weights @ v[..., part])
    expected = x + layer.self_attn.out_proj(torch.cat(heads, dim=-1))
    inner = layer.linear1(norm(expected, layer.norm2))
    expected = expected + layer.linear2(inner * torch.sigmoid(1.702 * inner))
    actual = layer(x, visible_words(torch.ones(1, 5, dtype=torch.bool)))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)  # another order of sums


def changed_from(model, causal):
    """The first position whose feature changes when the last word does."""
    first = model(replace(tokens(model, "cat dog"), causal=causal)).hidden
    second = model(replace(tokens(model, "cat kite"), causal=causal)).hidden
    return int((first - second).abs().amax(dim=-1)[0].gt(1e-4).nonzero()[0])


def test_bidirectional_unless_causal_is_asked_for(clip_encoder):
    assert changed_from(clip_encoder, None) == 0
    assert changed_from(clip_encoder, torch.tensor([False])) == 0
    assert (
        changed_from(clip_encoder, torch.tensor([True])) == 2
    )  # start, cat, then the changed word


def test_causal_is_a_matter_of_each_prompt(clip_encoder):
    batch = tokens(clip_encoder, "a red kite", "a red kite", "dog")
    mixed = clip_encoder(replace(batch, causal=torch.tensor([True, False, False]))).hidden
    causal = clip_encoder(replace(batch, causal=torch.tensor([True] * 3))).hidden
    torch.testing.assert_close(mixed[0], causal[0])
    torch.testing.assert_close(mixed[1:], clip_encoder(batch).hidden[1:])
    assert (mixed[0] - mixed[1]).abs().max() > 0.1


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
def test_padded_batch_equals_single(mode):
    model = tiny_clip().train(mode == "train")
    with torch.set_grad_enabled(mode != "no_grad"):
        batch = model(tokens(model, *CAPTIONS))
        for i, caption in enumerate(CAPTIONS):
            single = model(tokens(model, caption))
            n = single.mask.shape[1]
            # Attention over masked tokens rounds differently.
            torch.testing.assert_close(batch.hidden[i, :n], single.hidden[0], atol=1e-5, rtol=1e-4)


def test_frozen_and_not():
    model = tiny_clip(frozen=True)
    parent = nn.ModuleDict({"text": model}).train()
    assert parent.training and not any(m.training for m in model.modules())
    assert not model(tokens(model, "dog")).hidden.requires_grad
    trained = tiny_clip().train()
    trained(tokens(trained, *CAPTIONS)).hidden.pow(3).sum().backward()
    assert [n for n, p in trained.named_parameters() if p.grad is None] == []


def test_finite_in_bf16(clip_encoder):
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(clip_encoder(tokens(clip_encoder, *CAPTIONS)).hidden).all()


def test_positions_are_interpolated():
    """Linear between the middles of the old positions, constant outside: worked by hand."""
    old = torch.tensor([[0.0, 10.0], [4.0, 20.0]])
    expected = torch.tensor([[0.0, 10.0], [1.0, 12.5], [3.0, 17.5], [4.0, 20.0]])
    assert torch.equal(resize_positions(old, 4), expected)
    assert torch.equal(resize_positions(old, 2), old)
    assert torch.equal(resize_positions(old, 1), old[:1])
    # The official code: bilinear on a map one wide.
    long = torch.randn(77, 6, generator=torch.Generator().manual_seed(0))
    official = nn.functional.interpolate(long.T[None, :, :, None], size=[256, 1], mode="bilinear")
    torch.testing.assert_close(resize_positions(long, 256), official[0, :, :, 0].T)


def test_pretrained_positions_are_interpolated(tmp_path):
    folder = save(transformers_clip(max_position_embeddings=12), tmp_path)
    ours = ClipLanguageBackbone(model=folder, **DIMENSIONS)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(n for n in weights if "position_embedding" in n)
    assert torch.equal(ours.positional_embedding, resize_positions(weights[name], 24))
    assert ours.tokenizer.max_tokens == 24


def test_pretrained_of_another_size(tmp_path):
    folder = save(transformers_clip(num_hidden_layers=3), tmp_path)
    with pytest.raises(CheckpointError, match=r"larger model.*layers\.2\..*num_layers=3"):
        ClipLanguageBackbone(model=folder, **DIMENSIONS)
    with pytest.raises(
        CheckpointError, match=r"token_embedding.weight: \(49408, 16\).*\(49408, 32\).*width=16"
    ):
        ClipLanguageBackbone(model=folder, **{**DIMENSIONS, "width": 32})


def test_mask_token():
    assert tiny_clip().tokenizer.mask_token_id == 49404
    assert tiny_clip(mask_token_id=None).tokenizer.mask_token_id is None


def test_registered_and_unavailable(monkeypatch):
    assert LANGUAGE_BACKBONE_REGISTRY.get("ClipLanguageBackbone") is ClipLanguageBackbone
    with pytest.raises(FileNotFoundError, match="no_such_folder"):
        ClipLanguageBackbone(model="./no_such_folder")

    def fail(*args, **kwargs):
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(clip_text.CLIPTextModel, "from_pretrained", fail)
    with pytest.raises(ConfigError, match="the pretrained weights.*pretrained=False"):
        ClipLanguageBackbone(**DIMENSIONS)
    monkeypatch.setattr(clip_text.PromptTokenizer, "from_pretrained", fail)
    with pytest.raises(ConfigError, match="pip install open_clip_torch"):
        ClipLanguageBackbone(pretrained=False)


def test_checkpointing_recomputes_the_layers_and_gives_identical_gradients():
    results, calls = [], []
    for use_checkpoint in (False, True):
        model = tiny_clip(use_checkpoint=use_checkpoint).train()
        model.layers[0].linear1.register_forward_hook(
            lambda *_, mode=use_checkpoint: calls.append(mode)
        )
        hidden = model(tokens(model, *CAPTIONS)).hidden
        results.append(torch.autograd.grad(hidden.pow(3).sum(), list(model.parameters())))
    assert calls == [False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(*results))
