"""The BERT language backbone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from glipv2_d2.errors import PromptError
from glipv2_d2.language import Prompt
from glipv2_d2.language.pretrained_names import resolve_pretrained
from glipv2_d2.modeling.text import BertLanguageBackbone, TextFeatures
from tests.support.tiny import TOKENIZER_FILES, tiny_bert_folder


def build(**options):
    torch.manual_seed(0)
    return BertLanguageBackbone(**{"model": tiny_bert_folder(), "pretrained": False, **options})


@pytest.fixture(scope="module")
def bert():
    return build().eval()


def tokens(backbone, *captions):
    return backbone.tokenizer([Prompt.from_classes([c]) for c in captions])


def test_features(bert):
    batch = tokens(bert, "a red kite above the sea", "dog")
    features = bert(batch)
    assert isinstance(features, TextFeatures) and len(features) == 2
    assert features.hidden.shape == (2, 8, 32) == features.embedded.shape
    assert bert.out_channels == 32
    assert features.mask.tolist() == [[True] * 8, [True] * 3 + [False] * 5]
    # `hidden` as BERT gives it, padding included; `embedded` with the padding zeroed.
    assert torch.equal(features.hidden[batch.mask], features.embedded[batch.mask])
    assert features.hidden[1, 3:].ne(0).all() and not features.embedded[1, 3:].any()
    second = features[1:]
    assert torch.equal(second.hidden, features.hidden[1:]) and len(second.mask) == 1


def test_padded_batch_equals_single(bert):
    captions = ("dog", "a red kite above the sea", "cat on a mat")
    batch = bert(tokens(bert, *captions))
    for i, caption in enumerate(captions):
        single = bert(tokens(bert, caption))
        n = single.mask.shape[1]
        assert batch.mask[i].sum() == n
        # Attention over masked tokens rounds differently.
        torch.testing.assert_close(batch.hidden[i, :n], single.hidden[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batch.embedded[i, :n], single.embedded[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_embedded_averages_the_last_layers_and_divides_again(count):
    backbone = build(num_layers_averaged=count).eval()
    batch = tokens(backbone, "a red kite", "dog")
    features = backbone(batch)
    states = backbone.body(
        input_ids=batch.input_ids, attention_mask=batch.mask.long(), output_hidden_states=True
    ).hidden_states
    assert len(states) == 3  # embeddings and two layers
    expected = sum(states[-count:]) / count / count * batch.mask[..., None]
    torch.testing.assert_close(features.embedded, expected)
    torch.testing.assert_close(features.hidden, states[-1])


def test_frozen_stays_in_evaluation_and_gets_no_gradient():
    backbone = build(frozen=True)
    parent = nn.ModuleDict({"text": backbone, "other": nn.Linear(2, 2)}).train()
    assert parent["other"].training
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone(tokens(backbone, "dog")).hidden.requires_grad


def test_not_frozen_trains_every_parameter():
    backbone = build().train()
    assert all(m.training for m in backbone.modules())
    features = backbone(tokens(backbone, "a red kite", "dog"))
    features.hidden.pow(3).sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_has_no_pooler(bert):
    assert not [n for n, _ in bert.named_parameters() if "pooler" in n]


def test_no_dropout_between_evaluation_calls(bert):
    batch = tokens(bert, "dog")
    assert torch.equal(bert(batch).hidden, bert(batch).hidden)


def test_local_folder_with_weights(tmp_path, bert):
    bert.body.save_pretrained(tmp_path)
    for file in Path(tiny_bert_folder()).glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.manual_seed(1)
    loaded = BertLanguageBackbone(model=str(tmp_path), pretrained=True)
    expected = bert.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[n]) for n, v in loaded.state_dict().items())
    assert loaded.pretrained == str(tmp_path) and bert.pretrained is None


def test_minilm_comes_with_its_weights():
    backbone = BertLanguageBackbone(model="minilm", frozen=True)
    assert backbone.out_channels == 384 and backbone.pretrained == "minilm"
    with safe_open(Path(resolve_pretrained("minilm")) / "model.safetensors", "pt") as file:
        for name in ("embeddings.LayerNorm.weight", "encoder.layer.5.output.dense.weight"):
            assert torch.equal(backbone.body.state_dict()[name], file.get_tensor(name))
    # And they mean something: near words are near, through the whole forward pass.
    features = backbone(tokens(backbone, "cat", "kitten", "airplane"))
    pooled = F.normalize(features.embedded.sum(dim=1), dim=1)
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] + 0.2


def test_missing_folder():
    with pytest.raises(FileNotFoundError, match="no_such_folder"):
        BertLanguageBackbone(model="./no_such_folder")


def test_an_encoder_stored_in_half_precision_trains_in_float32(tmp_path):
    source = tiny_bert_folder()
    shutil.copytree(source, tmp_path / "half")
    config = BertConfig.from_pretrained(source)
    BertModel(config).half().save_pretrained(tmp_path / "half")
    backbone = BertLanguageBackbone(model=str(tmp_path / "half"), pretrained=True)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


def test_an_encoder_without_pooler_or_token_types_fits(tmp_path):
    folder = tmp_path / "distilbert"
    folder.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(Path(tiny_bert_folder()) / name, folder)
    DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64).save_pretrained(folder)
    backbone = BertLanguageBackbone(model=str(folder), pretrained=False).eval()
    tokens = backbone.tokenizer([Prompt.from_classes(["cat", "dog"])])
    assert backbone(tokens).hidden.shape == (1, tokens.mask.shape[1], 32)


def test_causal_is_a_decoder_of_transformers(bert):
    """The same weights in a BertModel that is a decoder: every word of a padded batch."""
    config = BertConfig.from_pretrained(tiny_bert_folder(), is_decoder=True)
    theirs = BertModel(config, add_pooling_layer=False).eval()
    theirs.load_state_dict(bert.body.state_dict(), strict=False)
    batch = tokens(bert, "a red kite above the sea", "dog", "two skateboarders, jumping")
    with torch.no_grad():
        expected = theirs(input_ids=batch.input_ids, attention_mask=batch.mask.long())
        actual = bert(replace(batch, causal=torch.ones(3, dtype=torch.bool)))
        bidirectional = bert(batch)
    expected = expected.last_hidden_state[batch.mask]
    # Two layers of float32; features of about 1.
    torch.testing.assert_close(actual.hidden[batch.mask], expected, atol=1e-5, rtol=1e-4)
    assert (bidirectional.hidden[batch.mask] - expected).abs().max() > 0.01


@pytest.mark.parametrize("count", [1, 2])
def test_a_causal_flag_of_no_prompt_changes_nothing(count):
    """Two forms of the same layers: that of transformers and that of causal batches."""
    backbone = build(num_layers_averaged=count).eval()
    batch = tokens(backbone, "a red kite above the sea", "dog")
    with torch.no_grad():
        expected = backbone(batch)
        actual = backbone(replace(batch, causal=torch.zeros(2, dtype=torch.bool)))
    for name in ("hidden", "embedded"):
        a, b = getattr(actual, name)[batch.mask], getattr(expected, name)[batch.mask]
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_roberta_counts_positions_from_its_padding():
    torch.manual_seed(0)
    backbone = build()
    config = RobertaConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, pad_token_id=0,
    )  # fmt: skip
    backbone.body = RobertaModel(config, add_pooling_layer=False)
    backbone.eval()
    batch = tokens(backbone, "a red kite above the sea", "dog")
    with torch.no_grad():
        expected = backbone(batch).hidden[batch.mask]
        actual = backbone(replace(batch, causal=torch.zeros(2, dtype=torch.bool)))
    torch.testing.assert_close(actual.hidden[batch.mask], expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_of_another_type_cannot_be_causal():
    backbone = build()
    backbone.body = DistilBertModel(DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=64))
    assert not backbone.can_be_causal
    caption = backbone.tokenizer([Prompt.unwritten("dog")])
    with pytest.raises(PromptError, match="'distilbert'.*word by word.*use one of bert, roberta"):
        backbone(caption)


@pytest.mark.parametrize("causal", [None, torch.tensor([True, False])])
def test_checkpointing_recomputes_the_layers_and_gives_identical_gradients(causal):
    """Dropout included; both ways to read, by transformers and word by word."""
    results, calls = [], []
    for use_checkpoint in (False, True):
        model = build(use_checkpoint=use_checkpoint).train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
        layer = model.body.encoder.layer[0].intermediate
        layer.register_forward_hook(lambda *_, mode=use_checkpoint: calls.append(mode))
        torch.manual_seed(1)
        features = model(replace(tokens(model, "a red kite", "dog"), causal=causal))
        parameters = list(model.parameters())
        results.append(torch.autograd.grad(features.hidden.pow(3).sum(), parameters))
    assert calls == [False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert sum(g.abs().sum() for g in results[0]) > 0
