"""The caption head: the next word's logits and loss, and the models that it refuses."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.fusion import DyHead
from glipv2_d2.modeling.heads import CaptionHead
from tests.support.tiny import tiny_config
from tests.support.tiny_captions import tiny_captioner, tiny_features


def head_and_embedding():
    torch.manual_seed(0)
    head = CaptionHead(text_channels=6, vocabulary_size=11, weight=2.0)
    torch.nn.init.normal_(head.bias)
    return head, torch.randn(11, 6)


def test_loss_is_the_mean_cross_entropy_of_the_next_words():
    head, embedding = head_and_embedding()
    words, labels = torch.randn(5, 6), torch.tensor([1, 10, 0, 3, 3])
    linear, gelu, norm = head.transform
    logits = norm(gelu(linear(words))) @ embedding.T + head.bias
    expected = -sum(logits.log_softmax(1)[i, label] for i, label in enumerate(labels)) / 5
    torch.testing.assert_close(head(words, labels, embedding), 2.0 * expected)


def test_no_caption_gives_zero_and_every_parameter_a_gradient():
    head, embedding = head_and_embedding()
    loss = head(torch.empty(0, 6), torch.empty(0, dtype=torch.int64), embedding)
    assert loss == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


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
