import pytest

from glipv2_d2.errors import PromptError
from glipv2_d2.language.noun_phrases import (
    NOUN_PHRASE_EXTRACTORS,
    extract_noun_phrases,
    register_noun_phrase_extractor,
)


def phrases(caption, backend="rules"):
    return [caption[s:e] for s, e in extract_noun_phrases(caption, backend)]


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


@pytest.mark.parametrize("caption", ["", "  "])
def test_empty(caption):
    with pytest.raises(PromptError, match="empty"):
        extract_noun_phrases(caption)


@pytest.mark.parametrize("caption", ["running quickly", "...", "of the"])
def test_nothing_found(caption):
    with pytest.raises(PromptError, match="brackets"):
        extract_noun_phrases(caption)


def test_backends(monkeypatch):
    with pytest.raises(ValueError, match=r"known: .'nltk', 'rules', 'spacy'"):
        extract_noun_phrases("a dog", "other")
    with pytest.raises(ValueError, match="registered already"):
        register_noun_phrase_extractor("rules")(len)
    monkeypatch.setitem(NOUN_PHRASE_EXTRACTORS, "whole", lambda caption: [(0, len(caption))])
    assert phrases("a dog", "whole") == ["a dog"]


@pytest.mark.parametrize("library", ["nltk", "spacy"])
def test_missing_library(monkeypatch, library):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        extract_noun_phrases("a dog", library)


def test_nltk_runs():
    nltk = pytest.importorskip("nltk")
    try:
        nltk.pos_tag(["dog"])
    except LookupError:
        pytest.skip("NLTK's tagger is not installed")
    assert phrases("a red kite above a dog", "nltk") == ["red kite", "dog"]
