import copy
import json
import pickle

import numpy as np
import pytest
import torch
from detectron2.structures import Instances

from glipv2_d2.language.phrase_list import PhraseList


@pytest.fixture
def phrases():
    return PhraseList(["cat", "red kite", "dog", "cat"])


@pytest.mark.parametrize("number", [int, np.int64, np.uint8, np.array, torch.tensor])
def test_integers_give_strings(phrases, number):
    assert phrases[number(1)] == "red kite"
    assert isinstance(phrases[number(0)], str)
    with pytest.raises(IndexError):
        phrases[number(4)]


def test_negative_integers_count_from_the_end(phrases):
    assert phrases[-1] == phrases[np.int64(-1)] == phrases[torch.tensor(-1)] == "cat"


@pytest.mark.parametrize(
    "rows, expected",
    [
        (slice(1, 3), ["red kite", "dog"]),
        (slice(3, None), ["cat"]),
        (torch.tensor([True, False, True, False]), ["cat", "dog"]),
        (torch.tensor([2, 0, 2]), ["dog", "cat", "dog"]),
        (torch.tensor([], dtype=torch.long), []),
        ([3, 1], ["cat", "red kite"]),
        ([], []),
        (slice(None, None, -1), ["cat", "dog", "red kite", "cat"]),
        (slice(None, None, 2), ["cat", "dog"]),
        (np.array([True, False, True, False]), ["cat", "dog"]),
        (np.array([-1]), ["cat"]),
        (torch.tensor([1]), ["red kite"]),
        ([np.int64(2), 1], ["dog", "red kite"]),
        ([False, True, False, False], ["red kite"]),
    ],
    ids=str,
)
def test_indexing_is_an_arrays(phrases, rows, expected):
    selected = phrases[rows]
    assert isinstance(selected, PhraseList)
    assert list(selected) == expected


def test_mask_of_another_length(phrases):
    with pytest.raises(IndexError):
        phrases[torch.tensor([True, False])]


def test_length_iteration_and_equality(phrases):
    assert len(phrases) == 4 and len(PhraseList()) == 0
    assert [p.upper() for p in phrases][1] == "RED KITE"
    assert phrases == PhraseList(phrases) == ["cat", "red kite", "dog", "cat"]
    assert ["cat", "red kite", "dog", "cat"] == phrases == ("cat", "red kite", "dog", "cat")
    assert phrases != PhraseList(["cat"]) and phrases != ["cat"] and phrases != "cat"
    assert not phrases != list(phrases)
    assert hash(phrases) == hash(tuple(phrases))
    assert repr(PhraseList(["a"])) == "PhraseList(['a'])"
    assert repr(PhraseList("a" * 300)).endswith("'a', 'a', ...], 300 in all)")
    assert len(repr(PhraseList("a" * 300))) < 70


def test_cat(phrases):
    joined = PhraseList.cat([phrases, PhraseList(), PhraseList(["bird"])])
    assert isinstance(joined, PhraseList)
    assert list(joined) == ["cat", "red kite", "dog", "cat", "bird"]


def test_is_a_field_of_instances(phrases):
    instances = Instances((10, 10), scores=torch.tensor([0.1, 0.9, 0.5, 0.7]), pred_phrases=phrases)
    assert list(instances[instances.scores > 0.4].pred_phrases) == ["red kite", "dog", "cat"]
    assert list(instances[instances.scores.argsort(descending=True)].pred_phrases) == [
        "red kite", "cat", "dog", "cat",
    ]  # fmt: skip
    one = instances[2]
    assert len(one) == 1 and list(one.pred_phrases) == ["dog"]
    assert list(instances.to("cpu").pred_phrases) == list(phrases)
    joined = Instances.cat([instances, one])
    assert list(joined.pred_phrases) == [*phrases, "dog"]
    with pytest.raises(AssertionError):
        instances.pred_phrases = PhraseList(["only one"])


def test_pickle_and_copy(phrases):
    for again in (pickle.loads(pickle.dumps(phrases)), copy.deepcopy(phrases), copy.copy(phrases)):
        assert isinstance(again, PhraseList) and again == phrases


def test_is_written_as_json(phrases):
    assert json.loads(json.dumps({"phrases": phrases})) == {"phrases": list(phrases)}
    assert json.dumps(phrases[::-1]) == '["cat", "dog", "red kite", "cat"]'
