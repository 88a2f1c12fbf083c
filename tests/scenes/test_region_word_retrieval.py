"""Positions of boxes, names that are right, ranking by hand and against single passes."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.structures import Boxes, Instances

from glipv2_d2.language import Prompt
from glipv2_d2.modeling.contrast import RegionWordContrast
from glipv2_d2.modeling.heads import TrainingBatch
from glipv2_d2.scenes.region_word_retrieval import (
    averaging,
    box_positions,
    phrase_retrieval,
    right_phrases,
)
from tests.support.tiny import tiny_input, tiny_model


def test_positions_of_boxes():
    matches = torch.tensor([[1, -1, 1, 0], [-1, -1, -1, -1], [0, -1, -1, -1]])
    positions = box_positions(matches, [2, 0, 2])
    assert positions.shape == (4, 12)
    assert [row.nonzero().flatten().tolist() for row in positions] == [[3], [0, 2], [8], []]


def test_means():
    members = torch.tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 0.0]])
    assert (averaging(members) @ values).tolist() == [[2, 4], [5, 0], [0, 0]]


def test_right_phrases_are_those_of_the_same_name():
    prompts = [
        Prompt.from_classes(["red star", "Dog"]),
        Prompt.from_classes(["dog", "red_star (toy)"]),
        Prompt.from_caption("a red star, a star", [[(2, 10)], [(14, 18)]]),
    ]
    right = right_phrases(prompts, [[0], [], [1, 0]])
    star = [True, False, False, True, True, False]
    assert right.tolist() == [star, [False] * 5 + [True], star]
    assert right_phrases(prompts, [[], [], []]).shape == (0, 6)


class Numbers:
    """In place of the words of prompts."""

    def __init__(self, hidden):
        self.hidden = hidden

    def __getitem__(self, rows):
        return Numbers(self.hidden[rows])


class FakeModel:
    """One token a phrase, four positions; the embeddings are given."""

    device = torch.device("cpu")

    def __init__(self, regions, words, logits, matches):
        self.logits = logits
        self.tokenizer = self._tokens
        self.losses = SimpleNamespace(match=lambda *a: matches)
        self.contrast = SimpleNamespace(
            embed_regions=lambda features: regions, embed_words=lambda hidden: words
        )

    def _tokens(self, prompts):
        phrases = torch.eye(2, dtype=torch.bool)
        tokens = SimpleNamespace(
            positive_maps=[phrases] * len(prompts), mask=phrases.new_ones(len(prompts), 2)
        )
        tokens.to = lambda device: tokens
        return tokens

    def language_backbone(self, tokens):
        return Numbers(torch.arange(len(tokens.positive_maps)))  # a prompt is its number

    def preprocess_image(self, inputs):
        return inputs

    def visual_features(self, images):
        return [torch.zeros(len(images), 1)]

    def anchors(self, features):
        return None

    def targets(self, batch):
        return None

    def ground(self, features, prompt):
        numbers = prompt.hidden
        assert len(set(numbers.tolist())) == 1 and len(numbers) == len(features[0])
        return SimpleNamespace(logits=self.logits[numbers[0]])


def given(names, classes):
    instances = Instances((8, 8))
    instances.gt_boxes = Boxes(torch.zeros(len(classes), 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.long)
    return {"prompt": Prompt.from_classes(names), "instances": instances}


def test_accuracy_by_hand():
    """Boxes: image 0 has a cat and a dog, image 1 a cow and a cat without any position.

    Phrases: cat, dog; cow, cat. Chance: 2/4, 1/4 and 1/4.
    """
    inputs = [given(["cat", "dog"], [0, 1]), given(["cow", "cat"], [0, 1])]
    matches = torch.tensor([[0, 0, 1, -1], [-1, 0, -1, -1]])
    regions = torch.zeros(2, 4, 2)
    regions[0] = torch.tensor([[2.0, -1.0], [0.0, 1.0], [0.0, 1.0], [9.0, 9.0]])
    regions[1, 1] = torch.tensor([1.0, 0.0])
    # Cat: mean (1, 0), finds the other prompt's cat. Dog: finds itself. Cow: finds a cat.
    words = torch.tensor([[[0.5, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [1.0, 0.0]]])
    logits = torch.full((2, 2, 4, 2), -5.0)  # prompt, image, position, word
    logits[1, 0, 0, 0], logits[0, 0, 1, 0] = 4.0, 1.0  # the cat: finds the cow
    logits[0, 0, 2, 1] = 1.0  # the dog: finds itself
    logits[1, 1, 1, 0] = 1.0  # the cow: finds itself
    result = phrase_retrieval(FakeModel(regions, words, logits, matches), [inputs])
    assert result == {
        "boxes": 3,
        "boxes_without_positions": 1,
        "phrases": 4,
        "chance": pytest.approx(1 / 3),
        "fused": pytest.approx(2 / 3),
        "before_fusion": pytest.approx(2 / 3),
    }


def test_no_boxes():
    inputs = [given(["cat", "dog"], [])]
    nothing = FakeModel(
        torch.zeros(1, 4, 2), torch.zeros(1, 2, 2), torch.zeros(1, 1, 4, 2), -torch.ones(1, 4)
    )
    with pytest.raises(ValueError, match="no annotations"):
        phrase_retrieval(nothing, [inputs])


def naive_top1(model, inputs):
    """One image and one prompt at a time, one box, one position, one word at a time."""
    right = {"fused": 0, "before_fusion": 0}
    tokens = model.tokenizer([x["prompt"] for x in inputs])
    for x in inputs:
        features = model.visual_features(model.preprocess_image([x]))
        own = model.targets(TrainingBatch.of([x], [x["prompt"]], model.tokenizer([x["prompt"]])))
        matches = model.losses.match(model.anchors(features), own)[0]
        regions = model.contrast.embed_regions(features)[0]
        for box, phrase in enumerate(x["instances"].gt_classes.tolist()):
            positions = (matches == box).nonzero().flatten().tolist()
            scores = {"fused": [], "before_fusion": []}
            names = []
            for other, words_of in zip(inputs, tokens.positive_maps):
                text = model.language_backbone(model.tokenizer([other["prompt"]]))
                logits = model.ground(features, text).logits[0].sigmoid()
                words = model.contrast.embed_words(text.hidden)[0]
                for k, name in enumerate(other["prompt"].names):
                    places = words_of[k].nonzero().flatten().tolist()
                    pairs = [(p, w) for p in positions for w in places]
                    names.append(name)
                    scores["fused"].append(sum(logits[p, w] for p, w in pairs) / len(pairs))
                    scores["before_fusion"].append(
                        sum(regions[p] @ words[w] for p, w in pairs) / len(pairs)
                    )
            for measure, values in scores.items():
                best = names[max(range(len(values)), key=values.__getitem__)]
                right[measure] += best == x["prompt"].names[phrase]
    return right


@torch.no_grad()
def test_against_single_passes():
    model = tiny_model().eval()
    model.contrast = RegionWordContrast(channels=32, text_channels=32, embed_channels=8)
    inputs = [
        tiny_input(names=("cat", "dog", "red kite"), classes=(0, 2)),
        tiny_input(names=("a big bear", "dog"), classes=(1, 0), seed=1),
    ]
    result = phrase_retrieval(model, [inputs, inputs[:1]])
    expected = naive_top1(model, inputs)
    for measure, count in naive_top1(model, inputs[:1]).items():
        assert result[measure] == pytest.approx((expected[measure] + count) / 6)
    assert result["boxes"] == 6 and result["phrases"] == (5 + 3) / 2
    assert 0 < result["fused"] < 1 or 0 < result["before_fusion"] < 1  # not all or nothing


def test_a_model_without_contrastive_head():
    result = phrase_retrieval(tiny_model().eval(), [[tiny_input()]])
    assert set(result) == {"boxes", "boxes_without_positions", "phrases", "chance", "fused"}
