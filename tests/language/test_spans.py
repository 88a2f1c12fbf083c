import pytest

from glipv2_d2.language.spans import (
    find_phrase,
    phrase_key,
    phrase_text,
    range_problem,
    span_problem,
    to_words,
    whole_caption,
)


@pytest.mark.parametrize(
    ("caption", "span"),
    [
        ("the man's hat, red", (4, 7)),  # before an apostrophe
        ("a t-shirt", [4, 9]),  # behind a hyphen
        ("一只狗在跑", (2, 3)),  # no spaces between Chinese words
    ],
)
def test_spans_of_whole_words(caption, span):
    assert span_problem(caption, span) is None


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        (None, "not a pair"),
        ("ab", "not a pair"),
        ([1], "not a pair"),
        ([True, 3], "not a pair of integers"),
        ([0, 1.0], "not a pair of integers"),
        ([0, 9], "the caption has 7 characters"),
        ([3, 3], "empty or reversed"),
    ],
)
def test_what_is_no_range_is_no_span(span, problem):
    assert problem in range_problem("naïveté", span)
    assert range_problem("naïveté", span) == span_problem("naïveté", span)


def test_a_range_inside_a_word_is_no_span():
    assert range_problem("naïveté", (0, 3)) is None
    assert "'naï' begins or ends inside a word" in span_problem("naïveté", (0, 3))
    assert "white space" in span_problem("a  b", (1, 3))


def test_a_phrase_has_one_key():
    assert phrase_key([[4, 7], [0, 3], [4, 7]]) == phrase_key([(0, 3), (4, 7)]) == ((0, 3), (4, 7))


def test_text_of_a_phrase():
    assert phrase_text("a red and blue ball", [[2, 5], [15, 19]]) == "red ball"
    assert phrase_text("a dog", [[2, 5], [3], [2, 9]]) == "dog ? ?"
    assert phrase_text("a dog", 3) == "?"


@pytest.mark.parametrize(
    ("phrase", "found"),
    [
        ("cat", [15, 18]),  # not in "caterpillar"
        ("CAT", [15, 18]),
        (" the  cat ", [11, 18]),
        ("cater", None),
        ("  ", None),
    ],
)
def test_find_phrase(phrase, found):
    assert find_phrase("caterpil   the cat and the cat", phrase) == found


def test_whole_caption():
    ((span,),) = whole_caption("  the dog \n")
    assert "  the dog \n"[slice(*span)] == "the dog"


def test_pieces_of_words_are_joined():
    caption = "the caterpillar's leaf"
    assert to_words(caption, [[4, 7], (7, 10)]) == [[4, 17]]
    assert to_words(caption, [[18, 20], [0, 1]]) == [[0, 3], [18, 22]]
    assert to_words("a , b", [[2, 3]]) == [[2, 3]]  # a mark is no word
    with pytest.raises(ValueError, match="out of range"):
        to_words(caption, [[18, 99]])
    with pytest.raises(ValueError, match="not a pair"):
        to_words(caption, [["a", 3]])
