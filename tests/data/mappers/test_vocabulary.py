"""Vocabularies as prompts, and those for which a prompt is tuned."""

import random
from collections import Counter

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.data.mappers.vocabulary import NEGATIVE_CHUNK_PROB, VocabularyPrompts
from glipv2_d2.errors import DataError
from glipv2_d2.language.class_names import PhraseNames
from glipv2_d2.language.frozen_tokenizer import FrozenTokenizer

NAMES = ["cat", "dog", "cow", "hen", "owl"]


@pytest.fixture
def vocabularies():
    def add(name, names):
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).thing_classes = names

    add("v1.2 train", NAMES)
    add("test", list(NAMES))
    add("others", NAMES[:-1])
    add("captions", PhraseNames(["a cat"]))


@pytest.fixture
def tuned(tokenizer, vocabularies):
    return VocabularyPrompts(tokenizer, chunk_size=2, tuned_datasets=[["v1.2 train", 4], "test"])


def test_data_of_the_same_classes_get_the_tuned_prompt_and_others_a_plain_one(tuned):
    ids = ["v1.2 train/0", "v1.2 train/1", "v1.2 train/2"]
    for name in ("v1.2 train", "test"):
        assert [prompt.embedding_id for prompt in tuned(name)] == ids
        assert [prompt.class_ids for prompt in tuned(name)] == [(0, 1), (2, 3), (4,)]
    assert [prompt.embedding_id for prompt in tuned("others")] == [None, None]
    assert tuned.tuned() == tuned("test")


def test_the_order_of_the_classes_is_that_of_the_tuned_prompt(tuned, vocabularies):
    DatasetCatalog.register("turned", list)
    MetadataCatalog.get("turned").thing_classes = NAMES[::-1]
    for mine, theirs in zip(tuned("turned"), tuned("test"), strict=True):
        assert (mine.caption, mine.embedding_id) == (theirs.caption, theirs.embedding_id)
        assert [NAMES[::-1][i] for i in mine.class_ids] == [NAMES[i] for i in theirs.class_ids]


def test_a_part_of_the_classes_is_asked_with_the_plain_prompt_which_is_told(tuned, caplog):
    tuned("others")
    assert "others has 4 of the classes for which a prompt is tuned (cat, dog, cow)" in caplog.text
    caplog.clear()
    tuned("test")
    assert not caplog.text


def test_an_image_is_trained_with_chunks_that_have_its_classes_and_now_and_then_without(tuned):
    random.seed(0)
    asked = Counter(tuned.training_prompt("test", {0, 1, 4}).class_ids for _ in range(2000))
    share = {ids: count / 2000 for ids, count in asked.items()}
    # Four standard deviations of 2,000 draws are 0.04.
    assert share[(2, 3)] == pytest.approx(NEGATIVE_CHUNK_PROB, abs=0.04)
    assert share[(0, 1)] == pytest.approx((1 - NEGATIVE_CHUNK_PROB) / 2, abs=0.045)
    assert share[(4,)] == pytest.approx((1 - NEGATIVE_CHUNK_PROB) / 2, abs=0.045)
    empty = {tuned.training_prompt("test", ()).class_ids for _ in range(50)}
    assert len(empty) == 3


def test_one_chunk_is_always_that_one(tokenizer, vocabularies):
    prompts = VocabularyPrompts(tokenizer, tuned_datasets="test")
    assert prompts.training_prompt("test", {3}) == prompts.training_prompt("test", ())


def test_data_that_a_prompt_cannot_be_tuned_on(tuned, tokenizer):
    tuned.require_tuned("test")
    for name in ("others", "captions"):
        with pytest.raises(DataError, match=f"classes of 'v1.2 train', and the data set '{name}'"):
            tuned.require_tuned(name)
    with pytest.raises(DataError, match="'captions' has none: name one with boxes of classes"):
        VocabularyPrompts(tokenizer, tuned_datasets=["captions"]).tuned()


def test_a_model_of_a_fixed_vocabulary_is_trained_with_its_own_prompts(tokenizer, vocabularies):
    frozen = FrozenTokenizer.of(tokenizer, tokenizer.split(NAMES, size=3))
    fixed = VocabularyPrompts(frozen, chunk_size=2)
    assert fixed.fixed and not VocabularyPrompts(tokenizer).fixed
    assert [prompt.caption for prompt in fixed("test")] == ["cat. dog. cow", "hen. owl"]
    assert fixed.training_prompt("others", {0, 1, 2, 3}).class_ids in [(0, 1, 2), (3,)]
