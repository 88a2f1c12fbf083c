from pathlib import Path

import pytest

from glipv2_d2.errors import UsageError, user_message
from glipv2_d2.language import Prompt, noun_phrases, read_prompt
from glipv2_d2.language.noun_phrases import (
    MOST_PHRASES,
    caption_phrases,
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
    with pytest.raises(
        UsageError, match=r"'other', known: .'nltk', 'rules', 'spacy', 'textblob', 'whole"
    ):
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


def test_missing_textblob(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "textblob.en", None)
    monkeypatch.setitem(__import__("sys").modules, "textblob", None)
    with pytest.raises(ModuleNotFoundError) as error:
        phrases("a dog", "textblob")
    assert "pip install 'glipv2_d2[labels]'" in user_message(error.value)


@pytest.fixture(params=["textblob", "nltk"])
def tagger(request, monkeypatch):
    """The back ends with GLIP's grammar; NLTK's with TextBlob's tags where its data is missing."""
    parser = pytest.importorskip("textblob.en").parser
    if request.param == "nltk":
        try:
            noun_phrase_extractor("nltk")("a dog")
        except ImportError:
            tokenize = pytest.importorskip("nltk.tokenize")
            sentences = tokenize.PunktSentenceTokenizer  # of general rules, not learned ones
            monkeypatch.setattr(tokenize, "PunktTokenizer", sentences)
            monkeypatch.setattr(parser, "tag", parser.find_tags, raising=False)
            monkeypatch.setattr("nltk.tag.PerceptronTagger", lambda: parser)
            noun_phrases._nltk_tools.cache_clear()
    yield request.param
    noun_phrases._nltk_tools.cache_clear()


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man riding a brown horse on the beach.", ["man", "brown horse", "beach"]),
        ("Two LARGE dogs; the İstanbul Tower.", ["LARGE dogs", "İstanbul Tower"]),
        ("man black hat (old) \n ball", ["man", "black hat", "ball"]),  # two chunks, not three
        ("a dog. The cat.", ["dog", "cat"]),
        ("is | and of", []),
        ("", []),
    ],
)
def test_glips_grammar(tagger, caption, expected):
    assert phrases(caption, tagger) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Stock photo: a dog, best price 2023", ["dog"]),
        ("Image of the left side of a sofa on Monday", ["sofa"]),
        ("kite https://kites.com/a?b cat @me #fun IMG_2.JPG dog", ["kite", "cat", "dog"]),
        ("a picture frame", ["picture frame"]),  # generic words are left out alone only
        ("Image of the day", []),
        ("4K HD", []),
    ],
)
def test_web_words_are_no_phrases(caption, expected):
    spans = caption_phrases(caption, noun_phrase_extractor("rules"))
    assert [caption[start:end] for start, end in spans] == expected


@pytest.mark.parametrize(
    ("caption", "phrase"),
    [
        ("star left of the ring", "star"),
        ("star left", "star left"),
        ("left of the ring", None),
        ("left shoe of the man", "left shoe"),
    ],
)
def test_a_word_of_place_before_of_is_cut_off(caption, phrase):
    """Taggers take it for a noun."""
    end = len(caption.split(" of ")[0])
    found = caption_phrases(caption, lambda text: [(0, end)])
    assert [caption[slice(*span)] for span in found] == [phrase] * (phrase is not None)


def test_a_caption_has_twenty_phrases_at_most():
    caption = "the photo, " + ", ".join(f"dog {i}" for i in range(25))
    spans = caption_phrases(caption, noun_phrase_extractor("rules"))
    assert len(spans) == MOST_PHRASES == 20
    assert caption[slice(*spans[-1])] == "dog 19"


@pytest.mark.parametrize(
    ("backend", "exact", "ends"),
    [("rules", (0.80, 0.84), (0.84, 0.89)), ("textblob", (0.74, 0.77), (0.87, 0.90))],
)
def test_marked_captions(backend, exact, ends):
    """Precision and recall, as the table of docs/self_training.md has them."""
    if backend == "textblob":
        pytest.importorskip("textblob")
    lines = (Path(__file__).parent / "captions.txt").read_text(encoding="utf-8").splitlines()
    prompts = [Prompt.parse(line) for line in lines]
    extractor = noun_phrase_extractor(backend)
    found = {(i, *s) for i, p in enumerate(prompts) for s in caption_phrases(p.caption, extractor)}
    marked = {(i, *span) for i, prompt in enumerate(prompts) for (span,) in prompt.spans}
    assert _precision_and_recall(found, marked) == pytest.approx(exact, abs=0.005)
    found, marked = ({(i, end) for i, _, end in places} for places in (found, marked))
    assert _precision_and_recall(found, marked) == pytest.approx(ends, abs=0.005)


def _precision_and_recall(found, marked):
    return len(found & marked) / len(found), len(found & marked) / len(marked)
