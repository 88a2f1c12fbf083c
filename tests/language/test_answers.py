"""VQA's normalization with all its traps, soft scores, and answer lists in every form."""

import json

import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.language.answers import agreement, normalize_answer, read_answers, soft_scores


@pytest.mark.parametrize(
    ("typed", "compared"),
    [
        ("The Dog", "dog"),
        ("a dog\nand\tan owl ", "dog and owl"),
        ("the", ""),  # nothing is left
        ("None", "0"),
        ("Ten of 2", "10 of 2"),
        ("eleven", "eleven"),
        # A mark becomes a space, unless one of its kind touches a space somewhere ...
        ("t-shirt", "t shirt"),
        ("t-shirt - red", "tshirt red"),
        ("yes/no", "yes no"),
        ("yes, no", "yes no"),
        ("yes,no", "yes no"),
        # ... or a comma is between two digits: then all marks are removed.
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),
        # Periods go unless a digit follows, whatever is before them.
        ("U.S.", "us"),
        ("3.5.", "3.5"),
        (".5", ".5"),
        ("x.5", "x.5"),
        ("." * 40, "." * 8),  # 32 of them at most
        # What is in no list of marks stays.
        ("5:30", "5:30"),
        ("dog's & cat's", "dog's & cat's"),
        ("$5 #1", "$5 #1"),
        # Contractions.
        ("dont", "don't"),
        ("I cant", "i can't"),
        ("couldn'tve", "couldn't've"),
        ("couldnt've", "couldn't've"),
        ("couldntve", "couldntve"),
        ("Ive", "ive"),  # in the official table as "Ive", but words are in lower case by then
        ("somebody'd", "somebodyd"),
        ("café", "café"),
    ],
)
def test_normalization(typed, compared):
    """By hand from `processPunctuation` and `processDigitArticle` of the official vqaEval.py, and
    compared with what that script gives for each."""
    assert normalize_answer(typed) == compared


def test_agreement_of_ten_people():
    """Left out one of ten: of three who agree, 3 x min(1, 2/3) + 7 x min(1, 3/3), over ten."""
    assert [agreement(n, 10) for n in range(11)] == pytest.approx([0, 0.3, 0.6, 0.9] + [1] * 7)


def test_agreement_of_fewer_people():
    assert agreement(1, 1) == 1 and agreement(0, 1) == 0
    assert agreement(2, 2) == 1 and agreement(1, 2) == pytest.approx(1 / 2)
    # Two of three: one other agrees for two of them, of two needed; both for the third.
    assert agreement(2, 3) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    # One of four: for the other three it is one of three needed.
    assert agreement(1, 4) == pytest.approx(3 * (1 / 3) / 4)
    assert agreement(4, 4) == 1


def test_soft_scores_compare_normalized_answers():
    human = ["2 dogs.", "two dogs", "2 dogs", "dogs"] + ["the cat"] * 6
    assert soft_scores(human) == pytest.approx({"2 dogs": 0.9, "dogs": 0.3, "cat": 1.0})


LIST = ["", "yes", "no", "1"]


@pytest.mark.parametrize(
    "content",
    [
        LIST,
        {"no": 2, "": 0, "1": 3, "yes": 1},
        {"3": "1", "1": "yes", "0": "", "2": "no"},
    ],
    ids=["label2ans", "ans2label", "label2ans with numbers"],
)
def test_an_answer_list_in_every_form(content, tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(content))
    assert read_answers(path) == read_answers(str(path)) == tuple(LIST)
    assert read_answers(LIST) == tuple(LIST)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["yes", "no", "yes"], "answers.json' has 'yes' twice"),
        ({"yes": 0, "no": 2}, "2 answers but none with the number 1: .* 0 ... 1, each once"),
        ({"yes": 1, "no": 2}, "none with the number 0"),
        ({"yes": 0, "no": 0}, "none with the number 1"),
        ({"0": "yes", "1": "yes"}, "has 'yes' twice"),
        ({"yes": 0, "no": None}, "none with the number 1"),
        (["yes", 1], "1 is no text"),
        (["yes"], "has 1 answers"),
        ({}, "has 0 answers"),
        ("yes", "neither a list"),
    ],
)
def test_what_is_no_answer_list(content, message, tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_answers(path)


def test_a_file_that_is_missing_or_no_json(tmp_path):
    with pytest.raises(DataError, match=r"'.*none.json' is not there.*prepare_vqa_answers.py"):
        read_answers(tmp_path / "none.json")
    (tmp_path / "answers.pkl").write_bytes(b"\x80\x04]\x94.")
    with pytest.raises(DataError, match="is no valid json"):
        read_answers(tmp_path / "answers.pkl")
