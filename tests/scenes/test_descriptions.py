import numpy as np

from glipv2_d2.scenes.descriptions import describe
from tests.support.tiny_scenes import scene


def described(text, count):
    return describe(scene(text), count, np.random.default_rng(0))


def test_the_first_caption_lists_what_is_largest():
    text = "red star .2 .2, blue ring .5 .5, red star .8 .8, pink moon .3 .7, green heart .7 .3"
    (caption,) = described(text, 1)
    assert caption.text == "two red stars, a blue ring and a pink moon"
    spans = {caption.text[slice(*s)]: i for i, (s,) in caption.spans.items() if i != 2}
    assert spans == {"red stars": 0, "blue ring": 1, "pink moon": 3}
    assert caption.spans[0] == caption.spans[2]


def test_relations_are_those_that_plainly_hold():
    captions = described("red star .2 .5, blue ring .8 .5", 9)
    assert captions[0].text == "a red star and a blue ring"
    assert {c.text for c in captions[1:3]} == {
        "a red star left of a blue ring",
        "a blue ring right of a red star",
    }
    assert all("red star" in c.text and "blue ring" in c.text for c in captions)


def test_no_two_captions_are_alike_and_one_kind_of_thing_has_few():
    texts = [c.text for c in described("red star .2 .2, red star .5 .5, red star .8 .8", 9)]
    assert texts[0] == "three red stars" and len(texts) == len(set(texts)) == 5
