"""One vector for each class, which knows nothing of the other classes."""

import copy

import pytest
import torch

from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.fusion import DyHead
from glipv2_d2.modeling.text import (
    BertLanguageBackbone,
    ParallelClassBert,
    TextFeatureCache,
)
from tests.support.tiny import tiny_bert_folder, tiny_input, tiny_model

NAMES = ["cat", "red kite", "a very long name of a dog"]
# Attention over masked tokens rounds differently in a padded batch.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
PARALLEL = {"language_backbone.name": "ParallelClassBert"}


def build(cls=ParallelClassBert, **options):
    torch.manual_seed(0)
    return cls(model=tiny_bert_folder(), pretrained=False, **options).eval()


def encode(backbone, *prompts):
    return backbone(backbone.tokenizer([Prompt.from_classes(names) for names in prompts]))


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_class_is_what_bert_makes_of_it_alone(pooling):
    backbone, plain = (
        build(pooling=pooling, num_layers_averaged=2),
        build(BertLanguageBackbone, num_layers_averaged=2),
    )
    features = encode(backbone, NAMES, NAMES[1:2])
    assert features.hidden.shape == features.embedded.shape == (2, 3, 32)
    assert features.mask.tolist() == [[True] * 3, [True, False, False]]
    assert not features.hidden[1, 1:].any()
    for k, name in enumerate(NAMES):
        alone = plain(plain.tokenizer([Prompt.from_classes([name])]))
        for mine, words in ((features.hidden, alone.hidden), (features.embedded, alone.embedded)):
            expected = words[0, 0] if pooling == "first" else words[0].mean(0)
            torch.testing.assert_close(mine[0, k], expected, **CLOSE)
    torch.testing.assert_close(features.hidden[1, 0], features.hidden[0, 1], **CLOSE)


def test_any_number_of_classes_is_encoded():
    names = [f"class {i}" for i in range(300)]
    backbone = build()
    many = encode(backbone, names)  # more than go through the encoder at once
    last = encode(backbone, names[299:]).hidden[0]
    torch.testing.assert_close(many.hidden[0, 299:], last, **CLOSE)


def test_bad_options():
    with pytest.raises(ConfigError, match="pooling must be one of"):
        build(pooling="last")


def test_definitions_are_read_instead_of_names(tmp_path):
    path = tmp_path / "knowledge.yaml"
    path.write_text("cat: {def_wiki: A domesticated animal., gpt3: [It purrs.]}")
    told, plain = build(definitions=str(path)), build()
    mine, theirs = encode(told, ["cat", "dog"]), encode(plain, ["cat", "dog"])
    assert not torch.allclose(mine.hidden[0, 0], theirs.hidden[0, 0])
    torch.testing.assert_close(mine.hidden[0, 1], theirs.hidden[0, 1], **CLOSE)
    long = encode(plain, ["cat: A domesticated animal. It purrs."])
    torch.testing.assert_close(mine.hidden[0, 0], long.hidden[0, 0], **CLOSE)


def test_the_cache_takes_classes():
    backbone = build()
    cache = TextFeatureCache(backbone)
    with torch.no_grad():
        for names in (["cat", "dog"], ["dog", "red kite", "cat"]):
            tokens = backbone.tokenizer([Prompt.from_classes(names)])
            kept = cache.encode(tokens).hidden
            torch.testing.assert_close(kept, backbone(tokens).hidden, **CLOSE)
    assert len(cache) == 2


@pytest.mark.parametrize("fused", [True, False])
def test_the_order_of_classes_does_not_matter_to_the_model(fused):
    names = ["cat", "dog", "red kite", "sea"]
    image = tiny_input()["image"]

    def logits(model, order):
        prompt = Prompt.from_classes([names[i] for i in order], order)
        with torch.no_grad():
            features = model.visual_features(model.preprocess_image([{"image": image}]))
            text = model.language_backbone(model.tokenizer([prompt]))
            return model.ground(features, text).logits[0]

    model = tiny_model(**PARALLEL).eval()
    if not fused:  # as GLIP-T (A), whose weights the official knowledge model continues
        model.neck = DyHead(num_blocks=1, channels=32, offset_rule="resized").eval()
    straight, turned = logits(model, [0, 1, 2, 3]), logits(model, [2, 0, 3, 1])
    torch.testing.assert_close(turned, straight[:, [2, 0, 3, 1]], atol=1e-5, rtol=1e-5)
    # The classes do differ, by much more than that.
    assert straight.std(dim=1).max() > 2e-4


def test_training_and_detection():
    model = tiny_model(**PARALLEL, **{"head.prior_prob": 0.5})
    assert model.state_dict().keys() == tiny_model().state_dict().keys()
    losses = model([tiny_input(), tiny_input(names=("cat",), classes=(0, 0), seed=1)])
    sum(losses.values()).backward()
    grad = model.language_backbone.body.embeddings.word_embeddings.weight.grad
    assert grad[3899].any() and grad[4937].any()  # dog and cat
    model.eval()
    image = tiny_input()["image"]
    model.set_vocabulary(["cat", "dog"])
    with torch.no_grad():
        (found,) = model([{"image": image}])
        (copied,) = copy.deepcopy(model)([{"image": image}])
    assert set(found["instances"].pred_phrases) <= {"cat", "dog"} and len(found["instances"])
    assert torch.equal(found["instances"].scores, copied["instances"].scores)
