import pickle

import pytest

from glipv2_d2.errors import PromptError
from glipv2_d2.language import Prompt, clean_name


def text_of(prompt):
    return [[prompt.caption[s:e] for s, e in phrase] for phrase in prompt.spans]


def test_from_classes():
    prompt = Prompt.from_classes(["person", "hot_dog", "bow_(weapon)"])
    assert prompt.caption == "person. hot dog. bow"
    assert prompt.kind == "detection"
    assert text_of(prompt) == [["person"], ["hot dog"], ["bow"]]
    assert prompt.names == ("person", "hot dog", "bow")
    assert prompt.class_ids == (0, 1, 2)
    assert len(prompt) == 3


def test_from_classes_keeps_ids_and_separator():
    prompt = Prompt.from_classes(["cat", "caterpillar", "cat food"], [7, 3, 9], separator=" ; ")
    assert prompt.caption == "cat ; caterpillar ; cat food"
    assert text_of(prompt) == [["cat"], ["caterpillar"], ["cat food"]]
    assert prompt.class_ids == (7, 3, 9)


def test_names_with_punctuation():
    prompt = Prompt.from_classes(["mr. potato head", "t-shirt", "rock'n'roll", "café", "狗"])
    assert text_of(prompt) == [[name] for name in prompt.names]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("bow_(decorative_ribbons)", "bow"),
        ("(a) big  cat", "big cat"),
        ("a (b (c) d) e", "a e"),
        ("dog", "dog"),
    ],
)
def test_clean_name(name, cleaned):
    assert clean_name(name) == cleaned


@pytest.mark.parametrize("name", ["", "  ", "_", "(everything)"])
def test_empty_name(name):
    with pytest.raises(PromptError, match="class name"):
        Prompt.from_classes(["cat", name])


@pytest.mark.parametrize("name", ["a [red heart]", "screw [ok", "]"])
def test_a_class_name_has_no_brackets(name):
    with pytest.raises(PromptError, match=r"class name '.*' has square brackets.*as one string"):
        Prompt.from_classes(["cat", name])


def test_from_caption_with_several_spans():
    prompt = Prompt.from_caption("a red kite and a blue kite", [[[2, 6], [6, 10]], [[17, 26]]])
    assert prompt.kind == "grounding"
    assert prompt.spans == (((2, 6), (6, 10)), ((17, 26),))
    assert prompt.names[1] == "blue kite"


def test_names_of_objects():
    caption = "the man is a referee, the dog is not"
    man, dog = [(4, 7), (13, 20)], [(26, 29)]
    assert Prompt.from_caption(caption, [man, dog]).object_names() == [
        ["man referee", "man", "referee"],
        ["dog"],
    ]
    named = Prompt.from_caption(caption, [man, dog], names=["judge", "dog"])
    assert named.object_names() == [["judge"], ["dog"]]


def test_immutable_hashable_picklable():
    prompt = Prompt.from_caption("a red kite", [[[2, 10]]])  # lists become tuples
    assert hash(prompt) == hash(pickle.loads(pickle.dumps(prompt)))
    assert prompt == Prompt.from_caption("a red kite", [[(2, 10)]])
    with pytest.raises(AttributeError):
        prompt.caption = "other"


def test_own_span():
    caption = "a cat. a red kite. the sea"
    prompt = Prompt.from_caption(caption, [[(9, 17)]], own_span=[7, 17])
    assert prompt.caption[slice(*prompt.own_span)] == "a red kite"
    assert hash(prompt) == hash(pickle.loads(pickle.dumps(prompt)))
    assert prompt != Prompt.from_caption(caption, [[(9, 17)]])
    assert Prompt.from_caption(caption, [[(9, 17)]]).own_span is None
    for bad, problem in (((0, 40), "out of range"), ((3, 3), "empty"), ((0, 3), "inside a word")):
        with pytest.raises(PromptError, match=f"own_span .*{problem}"):
            Prompt.from_caption(caption, [[(9, 17)]], own_span=bad)


@pytest.mark.parametrize(
    ("caption", "spans", "message"),
    [
        ("", [[(0, 1)]], "empty"),
        ("   ", [[(0, 1)]], "empty"),
        ("a dog", [], "no phrases"),
        ("a dog", [[]], "no span"),
        ("a dog", [[(2, 6)]], "out of range"),
        ("a dog", [[(-1, 2)]], "out of range"),
        ("a dog", [[(3, 3)]], "empty or reversed"),
        ("a dog", [[(5, 2)]], "empty or reversed"),
        ("a dog", [[(1, 2)]], "white space"),
        ("a dogs life", [[(2, 5)]], "inside a word"),
        ("a hotdog", [[(5, 8)]], "inside a word"),
        ("a cafe\u0301", [[(2, 6)]], "inside a word"),
        ("a dog", [[(2.0, 5.0)]], "not a pair of integers"),
        ("a dog", [[2, 5]], r"a list of pairs .* got \[\[2, 5\]\]"),
        ("a dog", [[(2, 3, 5)]], "a list of pairs"),
    ],
)
def test_bad_prompts(caption, spans, message):
    with pytest.raises(PromptError, match=message):
        Prompt.from_caption(caption, spans)


def test_fields_of_different_lengths():
    with pytest.raises(PromptError, match="one entry per phrase"):
        Prompt.from_classes(["cat", "dog"], class_ids=[1])


def test_no_classes():
    with pytest.raises(PromptError, match="no entries"):
        Prompt.from_classes([])
    with pytest.raises(PromptError, match="list of names"):
        Prompt.from_classes("cat")


def test_parse():
    prompt = Prompt.parse("a [red kite] above a [ dog ], [dog]")
    assert prompt.caption == "a red kite above a  dog , dog"
    assert text_of(prompt) == [["red kite"], ["dog"], ["dog"]]
    assert prompt.class_ids == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a [red [kite]]", "nested"),
        ("a red] kite", "without"),
        ("a [red kite", "without"),
        ("a [] kite", "empty brackets"),
        ("a [ ] kite", "empty brackets"),
        ("a kite", "no phrases"),
        ("", "empty"),
        ("a hot[dog]", "inside a word"),
    ],
)
def test_bad_brackets(text, message):
    with pytest.raises(PromptError, match=message):
        Prompt.parse(text)


@pytest.mark.parametrize("make", [Prompt.parse, lambda text: Prompt.from_classes(["cat", text])])
def test_half_characters_are_named(make):
    with pytest.raises(PromptError, match=r"\\udcff.* is no text in UTF-8"):
        make("a [\udcff]")


def test_split():
    prompts = Prompt.split(["a", "b", "c", "d", "e"], 2, class_ids=[10, 11, 12, 13, 14])
    assert [p.caption for p in prompts] == ["a. b", "c. d", "e"]
    assert [p.class_ids for p in prompts] == [(10, 11), (12, 13), (14,)]
    with pytest.raises(PromptError, match="at least one"):
        Prompt.split(["a"], 0)


def test_kinds_of_text():
    """Captions are read word by word and are hidden from the image; all else is as it was."""
    question = Prompt.from_caption("what is this?", [], kind="question")
    caption = Prompt.from_caption("a red kite", [[(2, 10)]], kind="caption")
    for prompt in (Prompt.from_classes(["cat"]), Prompt.parse("a [cat]"), question):
        assert not prompt.causal and prompt.seen_by_image
    assert caption.causal and not caption.seen_by_image
    assert caption != Prompt.from_caption("a red kite", [[(2, 10)]])
    for prompt in (question, caption, Prompt.unwritten()):
        assert pickle.loads(pickle.dumps(prompt)) == prompt
    with pytest.raises(PromptError, match="kind must be one of .*'question', 'caption'.*'vqa'"):
        Prompt.from_caption("what is this?", [], kind="vqa")


def test_prompts_without_phrases_are_prompts():
    question, unwritten = Prompt.from_caption("why?", [], kind="question"), Prompt.unwritten()
    assert (len(question), len(unwritten)) == (0, 0)
    assert question and unwritten  # `prompt or default` must not replace them
    assert (unwritten.caption, unwritten.kind) == ("", "caption")
    assert Prompt.unwritten("a photo of").caption == "a photo of"


@pytest.mark.parametrize(
    ("kind", "caption", "message"),
    [
        ("question", "", "is empty: give a question"),
        ("question", " ", "is empty: give a question"),
        ("question", "[MASK]", "is empty: give a question"),
        ("question", " [MASK]", "is empty: give a question"),
        ("caption", "  ", "give a caption or an empty text"),
        ("caption", None, "give a caption or an empty text"),
        ("grounding", "a cat", "has no phrases"),
    ],
)
def test_texts_without_words(kind, caption, message):
    with pytest.raises(PromptError, match=message):
        Prompt(caption, kind, (), (), ())


@pytest.mark.parametrize(
    ("caption", "span"),
    [
        ("what is this? [MASK]", (14, 20)),
        ("is [MASK] here? [MASK]", (16, 22)),
        ("what is [MASK] ?", None),
        ("what is this?[MASK]", None),  # no word of its own
        ("what is this? [mask]", None),
        ("what is this? [MASK] ", None),
    ],
)
def test_where_a_question_leaves_its_answer_open(caption, span):
    assert Prompt.from_caption(caption, [], kind="question").answer_span == span
    assert Prompt.from_caption(caption, [], kind="caption").answer_span is None
    whole = [[(0, len(caption.rstrip()))]]
    assert Prompt.from_caption(caption, whole).answer_span is None


def test_a_question_that_leaves_its_answer_open():
    question = Prompt.from_caption("what is the cat?", [[(12, 15)]], kind="question")
    assert question.left_open() == Prompt.from_caption(
        "what is the cat? [MASK]", [[(12, 15)], [(17, 23)]], kind="question"
    )
    assert question.left_open().left_open() == question.left_open()
