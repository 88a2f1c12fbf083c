"""The caption head: the next word's logits and loss, and the models that it refuses."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from torch import nn

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.fusion import DyHead
from glipv2_d2.modeling.heads import CaptionHead, caption
from tests.support.tiny import tiny_config
from tests.support.tiny_captions import tiny_captioner, tiny_features

VOCABULARY = 20


def small_head(**options):
    torch.manual_seed(0)
    return CaptionHead(text_channels=8, vocabulary_size=VOCABULARY, **options)


def embedding():
    return torch.randn(VOCABULARY, 8, generator=torch.Generator().manual_seed(1))


def test_loss_by_hand():
    """Two words: one of chances 1/2, 1/4, 1/4 is told the first, one of 1/3 each the last."""
    head = CaptionHead(text_channels=3, vocabulary_size=3)
    head.transform = nn.Identity()
    words = torch.tensor([[math.log(2), 0.0, 0.0], [5.0, 5.0, 5.0]])
    loss = head(words, torch.tensor([0, 2]), torch.eye(3))
    assert loss.item() == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_logits_against_the_formula():
    head, words = small_head(), torch.randn(2, 3, 8)
    torch.nn.init.normal_(head.bias)
    linear, _, norm = head.transform
    hidden = F.layer_norm(F.gelu(linear(words)), (8,), norm.weight, norm.bias, norm.eps)
    expected = torch.einsum("btc,vc->btv", hidden, embedding()) + head.bias
    # Sums of 8 terms of size 1 in float32.
    torch.testing.assert_close(head.logits(words, embedding()), expected, atol=1e-5, rtol=1e-5)


def training_pass(tokenizer, prompts, words=None):
    tokens = tokenizer(prompts)
    torch.manual_seed(2)
    words = torch.randn(*tokens.mask.shape, 8) if words is None else words
    batch = SimpleNamespace(prompts=prompts, tokens=tokens)
    text = SimpleNamespace(mask=tokens.mask)
    return SimpleNamespace(batch=batch, text=text, words=words, word_embedding=torch.empty(0))


def test_each_word_tells_the_one_after_it(tokenizer, monkeypatch):
    """From the token that begins a caption to the one that ends it; padding tells nothing, and
    nothing is told of other kinds of prompts."""
    told = {}

    def spy(self, words, labels, embedding):
        told.update(words=words, labels=tokenizer.tokenizer.convert_ids_to_tokens(labels))
        return words.sum()

    monkeypatch.setattr(CaptionHead, "forward", spy)
    prompts = [
        Prompt.parse("a [dog]"),
        Prompt.from_caption("a cat", [[(2, 5)]], kind="caption"),
        Prompt.from_caption("what is it?", [], kind="question"),
        Prompt.from_caption("a red kite.", [], kind="caption"),
    ]
    run = training_pass(tokenizer, prompts)
    assert set(small_head().losses(run)) == {"loss_caption"}
    assert told["labels"] == ["a", "cat", "[SEP]", "a", "red", "kite", ".", "[SEP]"]
    assert torch.equal(told["words"], torch.cat((run.words[1, :3], run.words[3, :5])))


@pytest.mark.parametrize("share", [3, 5])
def test_loss_of_several_processes(monkeypatch, share):
    """Two processes, the second with two words or none: the mean of both losses is that of one."""
    head, words = small_head(weight=0.5), torch.randn(5, 8)
    labels = torch.tensor([3, 0, 19, 3, 7])
    whole = head(words, labels, embedding())
    expected = F.cross_entropy(head.logits(words, embedding()), labels)
    torch.testing.assert_close(whole, 0.5 * expected)
    monkeypatch.setattr(caption, "mean_over_processes", lambda count: torch.tensor(2.5))
    parts = [head(words[p], labels[p], embedding()) for p in (slice(share), slice(share, None))]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_no_caption():
    head, table = small_head(), embedding().requires_grad_()
    words = torch.randn(2, 5, 8, requires_grad=True)
    loss = head(words[[]].flatten(0, 1), torch.tensor([], dtype=torch.long), table)
    assert loss.item() == 0
    loss.backward()
    for tensor in (words, table, *head.parameters()):
        assert tensor.grad is not None and not tensor.grad.any()


def test_half_precision_words_give_a_float32_loss():
    head, labels = small_head(), torch.arange(10)
    words = (1e3 * torch.randn(10, 8)).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(words, labels, embedding())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head(words.detach().float(), labels, embedding()))
    loss.backward()
    assert torch.isfinite(words.grad).all()


def test_the_word_embedding_is_the_language_backbones():
    """It is no second copy in the state dict, and it learns."""
    names = ["bias", "transform.0.bias", "transform.0.weight", "transform.2.bias"]
    assert sorted(small_head().state_dict()) == [*names, "transform.2.weight"]
    table = embedding().requires_grad_()
    small_head()(torch.randn(2, 8), torch.tensor([3, 4]), table).backward()
    assert table.grad.abs().sum() > 0


def test_each_word_but_the_last_tells_the_next_one():
    """Of the captions of a batch alone, up to the end token, by the model's own words."""
    model = tiny_captioner()
    prompts = [Prompt.from_classes(["cat"]), Prompt.unwritten("a dog"), Prompt.unwritten("a")]
    tokens = model.tokenizer(prompts)
    with torch.no_grad():
        text = model.language_backbone(tokens)
        _, words = model.neck(tiny_features(model, 3), text)
        embedding = model.language_backbone.word_embedding
        run = SimpleNamespace(
            batch=SimpleNamespace(prompts=prompts, tokens=tokens),
            text=text,
            words=words,
            word_embedding=embedding,
        )
        (loss,) = model.caption_head.losses(run).values()
        logits = model.caption_head.logits(words, embedding)
    pairs = [(row, place) for row, length in ((1, 4), (2, 3)) for place in range(length - 1)]
    expected = [
        F.cross_entropy(logits[row, place], tokens.input_ids[row, place + 1])
        for row, place in pairs
    ]
    assert len(expected) == 5
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def config(**options):
    model = tiny_config()
    model._target_ = GLIPv2
    model.caption_head = L(CaptionHead)(
        **{"text_channels": 32, "vocabulary_size": 30522, **options}, weight=1.0
    )
    return model


def refused(model, message):
    with pytest.raises(ConfigError, match=message):
        instantiate(model)


def test_refuses_words_of_another_size():
    refused(config(vocabulary_size=100), r"vocabulary_size 100 .*is \(30522, 32\)")


def test_refuses_a_backbone_that_cannot_be_causal():
    model = config()
    model.language_backbone.name = "ParallelClassBert"
    refused(model, "a ParallelClassBert cannot write captions.*word by word.*BertLanguageBackbone")


def test_refuses_a_tower_without_fusion():
    model = config()
    model.neck = L(DyHead)(num_blocks=1, channels=32, offset_rule="resized")
    model.head.text_channels = 32
    refused(model, "the neck DyHead cannot write captions.*VLTower")
