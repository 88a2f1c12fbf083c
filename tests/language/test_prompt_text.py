"""What a person types: names are asked as they are written, sentences for their noun phrases."""

import logging

import pytest
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

from glipv2_d2.errors import PromptError
from glipv2_d2.language import Prompt, clean_name, prompt_text
from glipv2_d2.language.prompt_text import read_caption, read_prompt, read_question

# All of its names, synonyms too: "trash_can", "steering_wheel", "legging_(clothing)", "Lego", ...
LVIS = sorted({name for category in LVIS_CATEGORIES for name in category["synonyms"]})
SPELLED = sorted({clean_name(name) for name in LVIS})


@pytest.fixture(autouse=True)
def nothing_is_said_yet():
    prompt_text._warn.cache_clear()


def phrases(text, *options):
    prompt = read_prompt(text, *options)
    assert isinstance(prompt, Prompt) and prompt.kind == "grounding"
    return list(prompt.names)


def test_lvis_names_are_whole():
    assert len(LVIS) > 1203 and {"trash_can", "steering_wheel"} < set(LVIS)
    assert "wiper_(for_windshield/screen)" in LVIS and "carpenter's saw" in SPELLED


@pytest.mark.parametrize("form", ["{}", "{} .", "{}.", " {} ;", "{},", "{}\n"])
def test_every_name_of_lvis_alone_is_the_class_that_is_written(form):
    for name in [*LVIS, *SPELLED]:
        assert read_prompt(form.format(name)) == [name]
        assert read_prompt(form.format(name), "classes") == [name]


@pytest.mark.parametrize("separator", [" . ", ". ", ", ", ",", "; ", "\n", " .\n"])
def test_all_names_of_lvis_at_once(separator):
    for names in (LVIS, SPELLED):
        assert read_prompt(separator.join(names)) == names
        assert read_prompt(separator.join(names) + separator.rstrip()) == names


def test_lvis_names_with_an_article_are_whole_phrases():
    for name in SPELLED:
        assert phrases(f"the {name}") == [name]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("trash can . steering wheel . red heart .", ["trash can", "steering wheel", "red heart"]),
        ("can", ["can"]),
        ("Boeing", ["Boeing"]),
        ("top", ["top"]),
        ("man riding horse", ["man riding horse"]),
        ("cat, red kite ,", ["cat", "red kite"]),
        ("a dog, a cat", ["a dog", "a cat"]),
        ("A dog. The cat.", ["A dog", "The cat"]),
        ("person with a hat, person without a hat", ["person with a hat", "person without a hat"]),
        ("man who is sitting; man who is not", ["man who is sitting", "man who is not"]),
        ("cat.dog. bird .fish", ["cat", "dog", "bird", "fish"]),
        ("A. B. C.", ["A", "B", "C"]),
        ("U.S. flag. 3.5 mm jack. 1,000 piece puzzle", None),
        ("Mr. Bean. St. Bernard. U.S.A. map", None),
        ("1, 2, 30, 400", ["1", "2", "30", "400"]),
        ("knocker (on a door), peeler (fruit, vegetables)", None),
        ("type A plug. type B plug", ["type A plug", "type B plug"]),
        ("猫、狗。鸟；鱼，马", ["猫", "狗", "鸟", "鱼", "马"]),
        ("ein Mann auf einem Pferd", ["ein Mann auf einem Pferd"]),
    ],
)
def test_names(text, names, caplog):
    if names is None:
        names = [name.strip() for name in text.replace("), ", ")|").replace(". ", "|").split("|")]
        names = {
            "U": ["U.S. flag", "3.5 mm jack", "1,000 piece puzzle"],
            "M": ["Mr. Bean", "St. Bernard", "U.S.A. map"],
            "k": ["knocker (on a door)", "peeler (fruit, vegetables)"],
        }[text[0]]
    assert read_prompt(text) == names
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("cat, kitten; dog", [["cat", "kitten"], "dog"]),
        ("dog; cat, kitten.", ["dog", ["cat", "kitten"]]),
        ("person, man, woman;", [["person", "man", "woman"]]),
        ("cat, kitten;\ndog, puppy;\nbird", [["cat", "kitten"], ["dog", "puppy"], "bird"]),
        ("猫、小猫；狗", [["猫", "小猫"], "狗"]),
        # As ever: one kind of separator, a stop or line end among them, or a comma within a name.
        ("cat; dog", ["cat", "dog"]),
        ("cat, dog", ["cat", "dog"]),
        ("cat, kitten; dog. bird", ["cat", "kitten", "dog", "bird"]),
        ("cat, kitten\ndog; bird", ["cat", "kitten", "dog", "bird"]),
        ("1,000 piece puzzle; peeler (fruit, vegetables)", None),
    ],
)
def test_several_words_of_a_class(text, classes, caplog):
    classes = classes or text.split("; ")
    assert read_prompt(text) == read_prompt(text, "classes") == classes
    told = [words for words in classes if isinstance(words, list)]
    assert len(caplog.records) == bool(told)  # whoever meant classes sees it
    assert all(f"({', '.join(map(repr, words))})" in caplog.text for words in told)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", ["dog"]),
        ("the trash can.", ["trash can"]),
        ("a top", ["top"]),
        ("a man riding a horse", ["man", "horse"]),
        ("man riding a horse", ["man", "horse"]),
        ("person on a bike.", ["person", "bike"]),
        ("a man with red hair", ["man", "red hair"]),
        ("A man riding a horse. trash can. the steering wheel", None),
        ("The small dog is brown", ["small dog", "brown"]),
        ("In the park, a man rides a horse.", ["park", "man", "horse"]),
        ("A dog, a cat and a bird sit on the sofa.", ["dog", "cat", "bird", "sofa"]),
        ("there is a can of beans", ["can of beans"]),
        ("find the red heart", ["red heart"]),
        ("detect cats", ["cats"]),
        ("Mr. Bean rides a horse", ["Mr. Bean", "horse"]),
        ("a [red kite] above a dog, a [cat]", ["red kite", "cat"]),
    ],
)
def test_captions(text, expected):
    expected = expected or ["man", "horse", "trash can", "steering wheel"]
    assert phrases(text) == expected
    assert read_prompt(text).caption == text.replace("[", "").replace("]", "")


def test_the_kind_overrides_the_rule():
    assert phrases("a dog, a cat", "caption") == ["dog", "cat"]
    assert phrases("red heart and blue ring. top. trash can", "caption") == [
        "red heart", "blue ring", "top", "trash can",
    ]  # fmt: skip
    assert read_prompt("a man riding a horse", "classes") == ["a man riding a horse"]
    for text in ("[SEP], cat", "screw [M4]"):  # as Prompt.from_classes
        with pytest.raises(PromptError, match="square brackets"):
            read_prompt(text, "classes")
    with pytest.raises(ValueError, match="kind of a prompt"):
        read_prompt("cat", "sentence")
    with pytest.raises(ValueError, match="noun-phrase extractor"):
        read_prompt("cat", "auto", "other")


def test_back_ends_see_sentences_only(extractors):
    seen = []

    @extractors.register()
    def whole(text):
        seen.append(text)
        return [(0, 3)]

    assert phrases("trash can. man on the bus. the car", "auto", "whole") == [
        "trash can", "man", "car",
    ]  # fmt: skip
    assert seen == ["man on the bus"]


@pytest.mark.parametrize("text", ["", "  ", " , ,", "...", " .\n;"])
def test_nothing_is_an_error(text):
    for kind in prompt_text.PROMPT_KINDS:
        with pytest.raises(PromptError, match="class names"):
            read_prompt(text, kind)


@pytest.mark.parametrize("text", ["of the", "it is there"])
def test_a_sentence_without_a_noun_is_an_error(text):
    with pytest.raises(PromptError, match="brackets"):
        read_prompt(text)


def test_what_is_not_asked_is_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        read_prompt("a man riding a horse to the left of the station")
        read_prompt("a man riding a horse to the left of the station")
    (record,) = caplog.records
    assert "for 'man', 'horse', 'station', and not for 'riding', 'left'" in record.getMessage()
    caplog.clear()
    read_prompt("a cup on the table")  # nothing is left out
    read_prompt("red heart, blue ring")
    assert not caplog.records
    read_prompt("dog and cat")
    assert "asked for as one class each: 'dog and cat'" in caplog.text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("what color is the star?", ["star"]),
        ("What kind of animal is on the red sofa?", ["red sofa"]),
        ("which room has a [bed]", ["bed"]),
        ("how many red stars are there?", ["red stars"]),
        ("what is it?? really?", []),
        ("  is there a cat?  ", ["cat"]),
    ],
)
def test_questions(text, names):
    prompt = read_question(text)
    assert prompt.kind == "question" and list(prompt.names) == names
    assert prompt.caption == text.strip().replace("[", "").replace("]", "")
    open_answer = read_question(text, ground_answer=True)
    assert open_answer.caption == f"{prompt.caption} [MASK]"
    assert open_answer.spans == (*prompt.spans, (open_answer.answer_span,))
    assert read_question(open_answer.caption, ground_answer=True).caption == open_answer.caption


@pytest.mark.parametrize("text", ["", "  ", "[MASK]", " [MASK] "])
def test_an_empty_question_is_an_error(text):
    with pytest.raises(PromptError, match="the question is empty"):
        read_question(text, ground_answer=True)


def test_captions_that_were_written():
    prompt = read_caption("a red star left of a blue ring")
    assert prompt.kind == "caption" and prompt.names == ("red star", "blue ring")
    assert read_caption("") == Prompt.unwritten()
    # Word lists know nothing of combining marks, at which a phrase would end inside a word.
    assert len(read_caption("a \u0915\u0941\u0924\u094d\u0924\u093e star")) <= 2
