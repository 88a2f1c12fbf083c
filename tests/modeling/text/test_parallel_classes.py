"""One vector for each class, which knows nothing of the other classes."""

import copy
import logging

import pytest
import torch

from glipv2_d2.errors import ConfigError, PromptError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.fusion import DyHead
from glipv2_d2.modeling.text import (
    BertLanguageBackbone,
    ParallelClassBert,
    TextFeatureCache,
    build_language_backbone,
    build_tokenizer,
)
from glipv2_d2.modeling.text.definitions import read_definitions
from glipv2_d2.modeling.text.parallel_classes import ParallelClassTokenizer
from tests.support.tiny import tiny_bert_folder, tiny_input, tiny_model

NAMES = ["cat", "red kite", "a very long name of a dog"]
# Attention over masked tokens rounds differently in a padded batch.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
PARALLEL = {"language_backbone.name": "ParallelClassBert"}
KNOWLEDGE = """
cat:
  clean_name: cat
  def_wiki: A domesticated animal.
  gpt3: [' It purrs.', ' Second.', ' 3.', ' 4.']
red_kite: {clean_name: red kite, def_wiki: null, gpt3: [' A bird.']}
'': {clean_name: '', def_wiki: Nothing., gpt3: [' Nothing.']}
"""


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


def test_tokens_are_classes():
    tokenizer = build().tokenizer
    tokens = tokenizer([Prompt.from_classes(["cat", "dog", "cat"]), Prompt.from_classes(["dog"])])
    assert tokens.input_ids.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert [m.tolist() for m in tokens.positive_maps] == [
        [[True, False, False], [False, True, False], [False, False, True]],
        [[True, False, False]],
    ]
    # A box that is both is the union of the two.
    both = Prompt(
        "cat. dog", "detection", (((0, 3),), ((0, 3), (5, 8))), ("cat", "both"), (0, 1)
    )  # fmt: skip
    assert tokenizer([both]).positive_maps[0].tolist() == [[True, False], [True, True]]
    words, mask = tokenizer.words([1, 0])
    assert words.tolist() == [[101, 3899, 102], [101, 4937, 102]] and mask.all()
    assert tokenizer.mask_token_id is None


def test_any_number_of_classes_is_one_prompt():
    tokenizer = build_tokenizer("ParallelClassBert", tiny_bert_folder(), 16)
    assert isinstance(tokenizer, ParallelClassTokenizer)
    names = [f"class {i}" for i in range(300)]
    (prompt,) = tokenizer.split(names)
    assert tokenizer([prompt]).mask.sum() == 300
    assert [p.class_ids for p in tokenizer.split(names[:3], size=2)] == [(0, 1), (2,)]
    joint = build_tokenizer("BertLanguageBackbone", tiny_bert_folder(), 16)
    assert len(joint.split(names)) > 1
    backbone = build()
    many = encode(backbone, names)  # more than go through the encoder at once
    last = encode(backbone, names[299:]).hidden[0]
    torch.testing.assert_close(many.hidden[0, 299:], last, **CLOSE)


def test_a_text_that_is_too_long_is_cut_and_named(caplog):
    backbone = build(max_tokens=5)
    with caplog.at_level(logging.WARNING):
        tokens = backbone.tokenizer([Prompt.from_classes(["cat", "a b c d e f"])] * 2)
    assert caplog.text.count("'a b c d e f' has 8 tokens and is cut to 5") == 1
    words, _ = backbone.tokenizer.words([1])
    assert words.tolist() == [[101, 1037, 1038, 1039, 102]]
    assert backbone(tokens).mask.all()


def test_what_is_no_class_is_named():
    backbone = build()
    with pytest.raises(PromptError, match="lists of class names.*'a cat' is a caption.*Bert"):
        backbone.tokenizer([Prompt.parse("a [cat]")])
    with pytest.raises(PromptError, match="empty"):
        backbone.tokenizer([])
    with pytest.raises(PromptError, match="vocabulary is empty"):
        backbone.tokenizer.split([])
    with pytest.raises(PromptError, match="'\\\\u200b' has no token"):
        backbone.tokenizer([Prompt.from_classes(["\u200b"])])
    with pytest.raises(TypeError, match="list of prompts"):
        backbone.tokenizer(Prompt.from_classes(["cat"]))
    with pytest.raises(ValueError, match="pooling must be one of"):
        build(pooling="last")


def test_definitions(tmp_path):
    path = tmp_path / "knowledge.yaml"
    path.write_text(KNOWLEDGE)
    assert read_definitions(path) == {
        "cat": "cat: A domesticated animal. It purrs. Second. 3."
    }  # the kite lacks Wiktionary's
    assert read_definitions(path, ("gpt3",), 1) == {
        "cat": "cat: It purrs.", "red kite": "red kite: A bird."
    }  # fmt: skip
    told, plain = build(definitions=str(path)), build()
    mine, theirs = encode(told, ["cat", "dog"]), encode(plain, ["cat", "dog"])
    assert not torch.allclose(mine.hidden[0, 0], theirs.hidden[0, 0])
    torch.testing.assert_close(mine.hidden[0, 1], theirs.hidden[0, 1], **CLOSE)
    long = encode(plain, ["cat: A domesticated animal. It purrs. Second. 3."])
    torch.testing.assert_close(mine.hidden[0, 0], long.hidden[0, 0], **CLOSE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file.*official file is"),
        ("a: [", "no YAML"),
        ("- cat", "no table of classes"),
        ("cat: dog", "class 'cat' has str instead"),
        ("cat: {clean_name: cat}", "defines no class by def_wiki and gpt3"),
    ],
)
def test_bad_definitions_are_named(content, message, tmp_path):
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_definitions(path)
    assert str(path) in str(error.value)


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


def test_by_the_name_in_the_registry():
    backbone = build_language_backbone(
        "ParallelClassBert", model=tiny_bert_folder(), pretrained=False, pooling="mean"
    )
    assert backbone.pooling == "mean" and backbone.out_channels == 32
