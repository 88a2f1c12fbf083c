"""Fixed prompts in place of a tokenizer: any order, any part of the names, and nothing else."""

import pickle

import pytest
import torch

from glipv2_d2.errors import PromptError
from glipv2_d2.language import Prompt, PromptTokenizer
from glipv2_d2.language.chunks import prompts_of_words
from glipv2_d2.language.frozen_tokenizer import FrozenTokenizer
from glipv2_d2.language.words import Exemplar

NAMES = ["cat", "red kite", "traffic light"]


@pytest.fixture(scope="module")
def minilm_words():
    return PromptTokenizer.from_pretrained("minilm")


@pytest.fixture(scope="module")
def two_chunks(minilm_words):
    """Two chunks: "cat. red kite" has 6 tokens, "traffic light" 4."""
    made = FrozenTokenizer.of(minilm_words, minilm_words.split(NAMES, size=2))
    return pickle.loads(pickle.dumps(FrozenTokenizer.from_json(made.to_json())))


def test_the_tokens_are_rows_of_one_table(two_chunks, minilm_words):
    tokens, expected = two_chunks(two_chunks.prompts[::-1]), minilm_words(two_chunks.prompts[::-1])
    assert two_chunks.vocabulary_size == 10 and two_chunks.max_tokens == 6
    assert tokens.input_ids.tolist() == [[6, 7, 8, 9, 0, 0], [0, 1, 2, 3, 4, 5]]
    torch.testing.assert_close(tokens.mask, expected.mask)
    for found, of_words in zip(tokens.positive_maps, expected.positive_maps, strict=True):
        assert torch.equal(found, of_words)


def test_exemplars_are_refused(two_chunks, minilm_words):
    """Asked for, and as a part of the vocabulary."""
    words = [("traffic light", 0), (Exemplar("cat", (0.1, 0.2)), 1)]
    with pytest.raises(PromptError, match="the exemplar 'cat' cannot be asked for by a fixed"):
        two_chunks(prompts_of_words(two_chunks, words))
    with pytest.raises(PromptError, match="the exemplar 'cat'"):
        FrozenTokenizer.of(minilm_words, prompts_of_words(minilm_words, words))


def test_names_in_another_order_and_a_part_of_them(two_chunks):
    prompts = two_chunks.split(["Traffic_light", "cat"], class_ids=[7, 3])
    assert [(p.caption, p.names, p.class_ids) for p in prompts] == [
        ("cat. red kite", ("cat",), (3,)),
        ("traffic light", ("traffic light",), (7,)),
    ]
    (first, second) = two_chunks(prompts).positive_maps
    assert first.int().tolist() == [[0, 1, 0, 0, 0, 0]]
    assert second.int().tolist() == [[0, 1, 1, 0, 0, 0]]
    assert [p.names for p in two_chunks.split(NAMES)] == [("cat", "red kite"), ("traffic light",)]


def test_phrases_of_a_sentence(minilm_words):
    frozen = FrozenTokenizer.of(minilm_words, [Prompt.parse("a [red kite] above a [dog]")])
    asked = Prompt.from_caption("a red kite above a dog", [[(19, 22)]])
    assert frozen([asked]).positive_maps[0].nonzero().tolist() == [[0, 6]]
    assert frozen.split(["dog"])[0].spans == asked.spans
    with pytest.raises(PromptError, match="'red' is not in the fixed vocabulary"):
        frozen([Prompt.from_caption("a red kite above a dog", [[(2, 5)]])])


@pytest.mark.parametrize(
    "ask",
    [
        lambda frozen: frozen.split(["cat", "dog"]),
        lambda frozen: frozen.split(["dog", "dog"]),
        lambda frozen: frozen([Prompt.from_classes(["dog"])]),
        lambda frozen: frozen.name_tokens("dog"),
        lambda frozen: frozen.num_tokens("dog"),
        lambda frozen: frozen.offsets("dog"),
        lambda frozen: frozen.fitting_prefix("dog"),
    ],
)
def test_another_text_is_one_error(two_chunks, ask):
    message = "'dog' is not in the fixed vocabulary.*ask for cat, red kite, traffic light, or take"
    with pytest.raises(PromptError, match=message):
        ask(two_chunks)


def test_a_name_that_is_asked_twice(two_chunks):
    with pytest.raises(PromptError, match="'cat' is not"):
        two_chunks.split(["cat", "cat"])


def test_a_question_may_be_without_phrases(minilm_words):
    question = Prompt.from_caption("is it red?", [], kind="question")
    frozen = FrozenTokenizer.from_json(FrozenTokenizer.of(minilm_words, [question]).to_json())
    assert frozen([question]).positive_maps[0].shape == (0, 6)


def test_what_cannot_be_fixed(minilm_words):
    twice = [Prompt.from_classes(["cat"]), Prompt.from_classes(["cat"])]
    for prompts, message in (
        ([], "vocabulary is empty"),
        ([Prompt.unwritten("a cat")], "the caption 'a cat' is no fixed prompt"),
        (twice, "two of the prompts read 'cat'"),
    ):
        with pytest.raises(PromptError, match=message):
            FrozenTokenizer.of(minilm_words, prompts)
