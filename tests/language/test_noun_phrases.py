import pytest

from glipv2_d2.errors import UsageError
from glipv2_d2.language import read_prompt
from glipv2_d2.language.noun_phrases import (
    noun_phrase_extractor,
    question_phrases,
    register_noun_phrase_extractor,
)


def phrases(caption, backend="rules"):
    return [caption[s:e] for s, e in noun_phrase_extractor(backend)(caption)]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("the small red star left of the blue ring", ["small red star", "blue ring"]),
        ("A man riding a brown horse on the beach.", ["man", "brown horse", "beach"]),
        ("cat. caterpillar. cat food", ["cat", "caterpillar", "cat food"]),
        ("person, traffic light , hot dog", ["person", "traffic light", "hot dog"]),
        (
            "a group of people sitting at a dining table with a bowl of fruit",
            ["group of people", "dining table", "bowl of fruit"],
        ),
        ("There is a lot of snow on top of the mountain", ["snow", "mountain"]),
        ("two dogs and a very large cat", ["two dogs", "large cat"]),
        ("a woman in a red dress is holding an umbrella", ["woman", "red dress", "umbrella"]),
        ("the man's t-shirt", ["man's t-shirt"]),
        ("the left shoe on the street corner", ["left shoe", "street corner"]),
        ("a ring in a building", ["ring", "building"]),
        ("a quickly moving butterfly", ["butterfly"]),
        ("the star to the right of the ring on the left", ["star", "ring"]),
        ("dog", ["dog"]),
        ("the trash can beside a can of beans", ["trash can", "can of beans"]),
        ("you can see a dog, and it can not see you", ["dog"]),
        ("a steering wheel in the parked car", ["steering wheel", "parked car"]),
        ("the running man is holding a watering can", ["running man", "watering can"]),
        ("Mr. Bean with a 3.5 mm jack and a U.S. flag", ["Mr. Bean", "3.5 mm jack", "U.S. flag"]),
    ],
)
def test_rules(caption, expected):
    assert phrases(caption) == expected


@pytest.mark.parametrize(
    "caption", ["", "running quickly", "...", "of the", "yes", "no", "none", "2", "10:30", "two"]
)
def test_nothing_found(caption):
    assert phrases(caption) == []


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what color is the star?", ["star"]),
        ("What kind of animal is on the table?", ["table"]),
        ("which room has a red sofa?", ["red sofa"]),
        ("what is the man holding?", ["man"]),
        ("how many stars are left of the ring?", ["stars", "ring"]),
    ],
)
def test_what_a_question_asks_for_is_none_of_its_phrases(question, expected):
    spans = question_phrases(question, noun_phrase_extractor("rules"))
    assert [question[start:end] for start, end in spans] == expected


def test_extractors_are_registered_by_their_names(extractors):
    @extractors.register()
    def whole(caption):
        return [(0, len(caption))]

    assert read_prompt("a dog is brown", backend="whole").names == ("a dog is brown",)
    with pytest.raises(UsageError, match=r"'other', known: .'nltk', 'rules', 'spacy', 'whole"):
        read_prompt("a dog", backend="other")


def test_the_decorator_of_the_last_release_works_on(extractors):
    with pytest.warns(FutureWarning, match="NOUN_PHRASE_EXTRACTORS"):
        register_noun_phrase_extractor("whole")(lambda caption: [(0, len(caption))])
    assert phrases("a dog", "whole") == ["a dog"]


@pytest.mark.parametrize("library", ["nltk", "spacy"])
def test_missing_library(monkeypatch, library):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        phrases("a dog", library)


def test_nltk_runs():
    nltk = pytest.importorskip("nltk")
    try:
        nltk.pos_tag(["dog"])
    except LookupError:
        pytest.skip("NLTK's tagger is not installed")
    assert phrases("a red kite above a dog", "nltk") == ["red kite", "dog"]
