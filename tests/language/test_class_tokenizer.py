import logging
import pickle
from dataclasses import replace

import pytest
import torch

from glipv2_d2.errors import PromptError
from glipv2_d2.language import Prompt
from glipv2_d2.language.class_tokenizer import ParallelClassTokenizer


@pytest.fixture
def classes(tokenizer):
    return ParallelClassTokenizer(tokenizer.tokenizer)


def test_tokens_are_classes(classes):
    tokens = classes([Prompt.from_classes(["cat", "dog", "cat"]), Prompt.from_classes(["dog"])])
    (cat, dog, again), other = tokens.input_ids.tolist()
    assert cat == again != dog and other == [dog, 0, 0]
    assert tokens.mask.tolist() == [[True] * 3, [True, False, False]]
    assert [m.tolist() for m in tokens.positive_maps] == [
        [[True, False, False], [False, True, False], [False, False, True]],
        [[True, False, False]],
    ]
    words, mask = classes.words([dog, cat])
    assert words.tolist() == [[101, 3899, 102], [101, 4937, 102]] and mask.all()
    assert classes.mask_token_id is None and tokens.own_words is None


def test_tuned_prompts_keep_their_ids(classes):
    tuned = replace(Prompt.from_classes(["cat", "dog"]), embedding_id="pets/0")
    assert classes([tuned]).embedding_ids == ["pets/0"]


def test_a_box_of_two_classes_has_the_tokens_of_both(classes):
    both = Prompt(
        "cat. dog", "detection", (((0, 3),), ((0, 3), (5, 8))), ("cat", "both"), (0, 1)
    )  # fmt: skip
    assert classes([both]).positive_maps[0].tolist() == [[True, False], [True, True]]


def test_every_process_has_the_same_ids(classes):
    other = pickle.loads(pickle.dumps(classes))
    first, second = Prompt.from_classes(["cat", "dog"]), Prompt.from_classes(["dog", "cat"])
    assert torch.equal(classes([first]).input_ids, other([second]).input_ids.flip(1))


def test_any_number_of_classes_is_one_prompt(classes):
    names = [f"class {i}" for i in range(300)]
    (prompt,) = classes.split(names)
    assert classes([prompt]).mask.sum() == 300
    assert [p.class_ids for p in classes.split(names[:3], size=2)] == [(0, 1), (2,)]


def test_definitions_are_read_instead_of_names(tokenizer):
    told = ParallelClassTokenizer(tokenizer.tokenizer, definitions={"cat": "cat: an animal"})
    words, mask = told.words(told([Prompt.from_classes(["cat", "dog"])]).input_ids[0].tolist())
    assert words[0].tolist() == tokenizer.encode("cat: an animal").ids
    assert words[1, mask[1]].tolist() == tokenizer.encode("dog").ids


def test_a_text_that_is_too_long_is_cut_and_named(tokenizer, caplog):
    short = ParallelClassTokenizer(tokenizer.tokenizer, max_tokens=5)
    with caplog.at_level(logging.WARNING):
        tokens = short([Prompt.from_classes(["cat", "a b c d e f"])] * 2)
    assert caplog.text.count("'a b c d e f' has 8 tokens and is cut to 5") == 1
    words, _ = short.words([int(tokens.input_ids[0, 1])])
    assert words.tolist() == [[101, 1037, 1038, 1039, 102]]


def test_what_is_no_class_is_named(classes):
    with pytest.raises(PromptError, match="lists of class names.*'a cat' is a caption.*Bert"):
        classes([Prompt.parse("a [cat]")])
    with pytest.raises(PromptError, match="empty"):
        classes([])
    with pytest.raises(PromptError, match="vocabulary is empty"):
        classes.split([])
    with pytest.raises(PromptError, match="'\\\\u200b' has no token"):
        classes([Prompt.from_classes(["\u200b"])])
    with pytest.raises(TypeError, match="list of prompts"):
        classes(Prompt.from_classes(["cat"]))
