import random
from collections import Counter

import pytest
from detectron2.data import MetadataCatalog

from glipv2_d2.errors import PromptError, PromptTooLongError
from glipv2_d2.language.negatives import (
    DetectionPromptSampler,
    absent_class_ids,
    surround_with_captions,
)
from glipv2_d2.language.tokenizer import PromptTokenizer

NAMES = [f"thing {i}" for i in range(30)]


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)


@pytest.fixture(scope="module")
def short(tokenizer):
    """A tokenizer with room for 20 tokens: about six names of NAMES."""
    return PromptTokenizer(tokenizer.tokenizer, max_tokens=20)


def test_all_positives_and_a_full_prompt(tokenizer):
    sampler = DetectionPromptSampler(NAMES, tokenizer, max_classes=10, full_prompt_prob=1.0)
    for _ in range(20):
        prompt, dropped = sampler([3, 7, 3])
        assert len(prompt) == 10 == len(set(prompt.class_ids))
        assert {3, 7} <= set(prompt.class_ids) and dropped == ()
        assert prompt.names == tuple(NAMES[i] for i in prompt.class_ids)


def test_number_of_negatives_is_uniform_or_full(tokenizer):
    sampler = DetectionPromptSampler(NAMES, tokenizer, max_classes=6, full_prompt_prob=0.5)
    sizes = Counter(len(sampler([0, 1]).prompt) for _ in range(4000))
    assert set(sizes) == {3, 4, 5, 6}  # at least one negative, at most six names
    assert abs(sizes[6] / 4000 - (0.5 + 0.125)) < 0.04
    for size in (3, 4, 5):
        assert abs(sizes[size] / 4000 - 0.125) < 0.03


def test_shuffle(tokenizer):
    options = {"max_classes": 30, "full_prompt_prob": 1.0}
    shuffled = DetectionPromptSampler(NAMES, tokenizer, **options)
    assert len({shuffled([0]).prompt.class_ids for _ in range(5)}) == 5
    fixed = DetectionPromptSampler(NAMES, tokenizer, shuffle=False, **options)
    assert fixed([4]).prompt.class_ids == tuple(range(30))


def test_negatives_go_first(short):
    sampler = DetectionPromptSampler(NAMES, short, full_prompt_prob=1.0)
    for _ in range(20):
        prompt, dropped = sampler([1, 2, 3, 4])
        assert {1, 2, 3, 4} <= set(prompt.class_ids) and dropped == ()
        assert short.num_tokens(prompt.caption) <= 20
        assert len(prompt) == 6  # 6 names x 2 tokens + 5 stops + 2 = 19


def test_positives_that_overflow_are_counted_and_change(short):
    sampler = DetectionPromptSampler(NAMES, short)
    kept = set()
    for _ in range(30):
        prompt, dropped = sampler(range(10))
        assert len(prompt) == 6 and len(dropped) == 4
        assert sorted(prompt.class_ids + dropped) == list(range(10))
        assert short.num_tokens(prompt.caption) <= 20
        kept.update(prompt.class_ids)
    assert kept == set(range(10))


def test_positives_beyond_max_classes_stay(tokenizer):
    sampler = DetectionPromptSampler(NAMES, tokenizer, max_classes=5)
    prompt, dropped = sampler(range(8))
    assert sorted(prompt.class_ids) == list(range(8)) and dropped == ()


def test_federated_negatives(tokenizer):
    sampler = DetectionPromptSampler(NAMES, tokenizer, full_prompt_prob=1.0)
    for _ in range(10):
        assert set(sampler([0], [5, 6]).prompt.class_ids) == {0, 5, 6}
        assert set(sampler([0], []).prompt.class_ids) == {0}
        assert set(sampler([], [5]).prompt.class_ids) == {5}
    with pytest.raises(PromptError, match="nothing to ask for"):
        sampler([], [])


def test_excluded_classes_are_never_negatives(tokenizer):
    sampler = DetectionPromptSampler(NAMES, tokenizer, full_prompt_prob=1.0)
    for _ in range(10):
        assert not {1, 2} & set(sampler([0], excluded_ids=[1, 2]).prompt.class_ids)


ALIKE = ["screw (ok)", "nut", "screw_(broken)", "Screw", "washer"]


def test_classes_written_alike_are_positive_together(tokenizer):
    sampler = DetectionPromptSampler(ALIKE, tokenizer, full_prompt_prob=1.0)
    for _ in range(10):
        prompt = sampler([0]).prompt
        assert sorted(prompt.class_ids) == [0, 1, 4]  # neither 2 nor 3 as a negative
        prompt = sampler([0, 2, 3]).prompt
        assert sorted(prompt.class_ids) == [0, 1, 2, 3, 4]
        assert prompt.caption.casefold().split(". ").count("screw") == 1
        spans = dict(zip(prompt.class_ids, prompt.spans))
        assert spans[0] == spans[2] == spans[3] != spans[1]
        rows = dict(zip(prompt.class_ids, tokenizer([prompt]).positive_maps[0]))
        assert (rows[0] == rows[2]).all() and rows[0].any() and not (rows[0] & rows[1]).any()
        prompt = sampler([1]).prompt  # as a negative they are written once, too
        assert prompt.caption.casefold().split(". ").count("screw") == 1


def test_an_evaluation_asks_for_every_class_in_its_own_place(tokenizer):
    """As the official LVIS prompts do."""
    (prompt,) = tokenizer.split(ALIKE)
    assert prompt.caption == "screw. nut. screw. Screw. washer"
    assert prompt.class_ids == (0, 1, 2, 3, 4) and len(set(prompt.spans)) == 5


def test_what_may_be_there_under_the_same_name_is_not_called_absent(tokenizer):
    sampler = DetectionPromptSampler(ALIKE, tokenizer, full_prompt_prob=1.0)
    for _ in range(10):
        assert set(sampler([1], [2, 4]).prompt.class_ids) == {1, 4}
        assert set(sampler([1], [0, 2, 3]).prompt.class_ids) == {0, 1}
        assert set(sampler([1], excluded_ids=[3]).prompt.class_ids) == {1, 4}


def test_names_written_once_take_their_tokens_once(tokenizer):
    short = PromptTokenizer(tokenizer.tokenizer, max_tokens=8)
    prompt, dropped = DetectionPromptSampler(["red kite"] * 9, short)(range(9))
    assert sorted(prompt.class_ids) == list(range(9)) and dropped == ()


def test_image_without_boxes(tokenizer):
    sampler = DetectionPromptSampler(NAMES, tokenizer, max_classes=4, full_prompt_prob=0.0)
    assert {len(sampler([]).prompt) for _ in range(100)} == {1, 2, 3, 4}


def test_tokenizer_that_merges_over_separators(tokenizer):
    class Longer:
        """Counts a prompt higher than the sum of its names."""

        max_tokens, num_special_tokens = 20, 2
        name_tokens = staticmethod(lambda name: tokenizer.name_tokens(name))
        num_tokens = staticmethod(lambda caption: tokenizer.num_tokens(caption) + 7)

    prompt, dropped = DetectionPromptSampler(NAMES, Longer())(range(8))
    assert len(prompt) == 4 and len(dropped) == 4
    assert sorted(prompt.class_ids + dropped) == list(range(8))


def test_bad_input(tokenizer, short):
    sampler = DetectionPromptSampler(NAMES, tokenizer)
    with pytest.raises(PromptError, match="class id 30 is unknown"):
        sampler([30])
    with pytest.raises(PromptError, match="vocabulary is empty"):
        DetectionPromptSampler([], tokenizer)
    with pytest.raises(PromptTooLongError, match="shorten the name"):
        DetectionPromptSampler(["dog", "dog " * 19], short)
    with pytest.raises(ValueError, match="full_prompt_prob"):
        DetectionPromptSampler(NAMES, tokenizer, full_prompt_prob=2)
    with pytest.raises(ValueError, match="max_classes"):
        DetectionPromptSampler(NAMES, tokenizer, max_classes=0)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"thing_dataset_id_to_contiguous_id": {3: 0, 7: 1}}, [1]),  # 9 is no class of the set
        ({"evaluator_type": "lvis"}, [6, 8]),  # its ids begin at 1
        ({}, [7, 9]),
    ],
)
def test_absent_classes_of_federated_records(metadata, expected):
    MetadataCatalog.get("federated").set(**metadata)
    assert absent_class_ids({"neg_category_ids": [7, 9]}, "federated") == expected
    assert absent_class_ids({}, "federated") is None  # every class may be a negative


POOL = [("a.jpg", "a red kite"), ("b.jpg", "two dogs!"), ("c.jpg", "the sea"), ("d.jpg", "")]


def test_captions_of_other_images_stand_around_the_own_one(tokenizer):
    orders = set()
    for _ in range(50):
        caption, (start, end) = surround_with_captions("the sea", "a.jpg", POOL, 9, tokenizer)
        assert caption[start:end] == "the sea" and "kite" not in caption
        orders.add(caption)
    # The image's own caption and equal ones are no negatives, and each stands there once.
    assert orders == {"the sea", "two dogs! the sea", "the sea. two dogs!"}


def test_only_captions_that_fit_are_put_around_another(short):
    pool = [("b.jpg", f"a caption of {i} words or so") for i in range(50)]
    for _ in range(20):
        caption, _ = surround_with_captions("the sea", "a.jpg", pool, 50, short)
        assert 11 <= short.num_tokens(caption) <= short.max_tokens
    assert surround_with_captions("the sea", "a.jpg", [], 5, short) == ("the sea", (0, 7))
