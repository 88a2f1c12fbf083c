"""Exemplars: boxes of one image as a word that is asked of others."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.errors import ConfigError, PromptError, UserError
from glipv2_d2.language import Prompt
from glipv2_d2.language.words import Exemplar
from tests.support.tiny import lively, tiny_glipv2_config, tiny_model

BOX = [10, 12, 50, 44]
WORDS = ["cat", "dog", "red kite", "bus", "shop window", "tree", "house"]


def image(seed=0, height=64, width=80):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def exemplar_predictor():
    torch.manual_seed(0)
    model = lively(instantiate(tiny_glipv2_config()))
    return GroundingPredictor(model, min_size=64, max_size=128)


def asked(exemplar_predictor, prompts, **options):
    (found,) = exemplar_predictor(image(), prompts, **options)
    return {*zip(found.pred_classes.tolist(), found.pred_phrases)}, found


def test_an_exemplar_stands_wherever_a_name_does(exemplar_predictor):
    seen = exemplar_predictor.exemplar(image(1), [BOX, [0, 0, 30, 30]], name="bolt", words=WORDS)
    assert isinstance(seen, Exemplar) and pickle.loads(pickle.dumps(seen)) == seen
    assert asked(exemplar_predictor, seen)[0] == {(0, "bolt")}
    classes, found = asked(exemplar_predictor, ["cat", seen, "dog"])
    assert classes == {(0, "cat"), (1, "bolt"), (2, "dog")}
    read = asked(exemplar_predictor, ["cat", "bolt", "dog"])[1]
    assert not torch.equal(found.scores[:5], read.scores[:5])  # it is not its name
    assert asked(exemplar_predictor, [[seen, "screw"], "dog"])[0] == {(0, "bolt"), (1, "dog")}
    classes, rest = asked(exemplar_predictor, ["cat"], negatives=[seen, "dog"])
    assert classes <= {(0, "cat")} and len(rest) < len(asked(exemplar_predictor, ["cat"])[1])
    exemplar_predictor.glip.chunk_size = 1  # each in a prompt of its own
    assert asked(exemplar_predictor, ["cat", seen, "dog"])[0] == {
        (0, "cat"),
        (1, "bolt"),
        (2, "dog"),
    }
    exemplar_predictor.glip.chunk_size = None
    for per_image in exemplar_predictor([image(), image(1)], [seen, "cat"]):  # classes of both
        assert {*per_image.pred_phrases} == {"bolt", "cat"}


def test_its_vector_takes_the_place_of_the_words_of_its_name(exemplar_predictor):
    model, vector = exemplar_predictor.glip, tuple(range(32))
    plain = Prompt.from_classes(["cat", "red kite"])
    prompts = [
        replace(plain, exemplars=(None, Exemplar("red kite", vector, weight)))
        for weight in (0, 0.25, 1)
    ]
    with torch.no_grad():
        read, seen, mixed, text = model.text_features(model.tokenizer([plain, *prompts])).hidden
    phrase = model.tokenizer([plain]).positive_maps[0][1]
    assert phrase.sum() == 2 and torch.equal(read[~phrase], seen[~phrase])
    assert torch.equal(seen[phrase], torch.arange(32.0).expand(2, -1))
    torch.testing.assert_close(mixed[phrase], 0.75 * seen[phrase] + 0.25 * read[phrase])
    torch.testing.assert_close(text, read)


def test_all_boxes_of_all_images_are_one_word(exemplar_predictor):
    def exemplar(images, boxes):
        return torch.tensor(exemplar_predictor.exemplar(images, boxes, words=WORDS).vector)

    first, second = exemplar(image(1), [BOX]), exemplar(image(2), [BOX, BOX])
    both = exemplar([image(1), image(2)], [[BOX], [BOX]])
    assert not torch.equal(first, second)
    # The mean of the regions is that of the words, but for its length.
    assert (both - first).norm() < (first - second).norm() > (both - second).norm()
    torch.testing.assert_close(exemplar(image(1), BOX), first)  # one box, not in a list
    # Pixels of the image itself, whatever size the model sees it in: one of twice the size.
    small, large = (np.kron(image(1, 8, 10), np.ones((n, n, 1), dtype=np.uint8)) for n in (8, 16))
    one, doubled = exemplar(small, [BOX]), exemplar(large, [[2 * x for x in BOX]])
    elsewhere = exemplar(small, [[50, 0, 80, 30]])
    assert (doubled - one).norm() < (doubled - elsewhere).norm()


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        (1, [], r"boxes are \[\[x1, y1, x2, y2\], ...\] .* image of 80x64"),
        (1, [[10, 10, 81, 20]], "inside the image of 80x64"),
        (1, [[20, 10, 10, 20]], "inside the image"),
        (1, [[1, 2, 3]], "inside the image"),
        (1, [[float("nan")] * 4], "inside the image"),
        (1, "box", "inside the image"),
        (2, [[BOX]], "boxes of 1 images are given for 2 images"),
    ],
)
def test_boxes_that_are_none(exemplar_predictor, images, boxes, message):
    with pytest.raises(UserError, match=message):
        exemplar_predictor.exemplar([image()] * images, boxes, words=WORDS)


def test_who_has_no_exemplars(exemplar_predictor):
    plain = GroundingPredictor(tiny_model(), min_size=64, max_size=128)
    with pytest.raises(ConfigError, match=r"this model has none.*model\.contrast"):
        plain.exemplar(image(), [BOX])
    with pytest.raises(PromptError, match="'bolt' has 3 channels, and words of this model have 32"):
        exemplar_predictor(image(), ["cat", Exemplar("bolt", (1.0, 2.0, 3.0))])
    with pytest.raises(UserError, match="words is empty: give names"):
        exemplar_predictor.exemplar(image(), [BOX], words=[])
    with pytest.raises(UserError, match="text_weight must"):
        exemplar_predictor.exemplar(image(), [BOX], text_weight=2)
