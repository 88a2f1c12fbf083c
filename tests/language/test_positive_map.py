import pytest
import torch

from glipv2_d2.errors import PromptError
from glipv2_d2.language import Prompt
from glipv2_d2.language.positive_map import ClassMap, overlapping_tokens, positive_map


def phrase_tokens(tokenizer, prompt):
    """The tokens of each phrase, as strings."""
    encoding = tokenizer.encode(prompt.caption)
    rows = positive_map(prompt, encoding.offsets)
    return [[t for t, hit in zip(encoding.tokens, row) if hit] for row in rows.tolist()]


def test_sub_words_and_names_within_names(tokenizer):
    prompt = Prompt.from_classes(["cat", "caterpillar", "cat food", "food"])
    assert phrase_tokens(tokenizer, prompt) == [
        ["cat"],
        ["cater", "##pi", "##llar"],
        ["cat", "food"],
        ["food"],
    ]
    rows = positive_map(prompt, tokenizer.encode(prompt.caption).offsets)
    assert (rows.sum(0) <= 1).all()  # no token belongs to two names
    assert not rows[:, 0].any() and not rows[:, -1].any()  # [CLS], [SEP]


def test_repeated_words(tokenizer):
    caption = "a dog chases a dog"
    prompt = Prompt.from_caption(caption, [[(2, 5)], [(15, 18)]])
    rows = positive_map(prompt, tokenizer.encode(caption).offsets)
    assert rows.nonzero().tolist() == [[0, 2], [1, 5]]


def test_punctuation_belongs_to_its_phrase_only(tokenizer):
    prompt = Prompt.from_classes(["mr. potato head", "t-shirt", "rock 'n' roll"])
    assert phrase_tokens(tokenizer, prompt) == [
        ["mr", ".", "potato", "head"],
        ["t", "-", "shirt"],
        ["rock", "'", "n", "'", "roll"],
    ]


def test_accents_and_other_scripts(tokenizer):
    # The normalizer strips accents; offsets still count characters of the caption.
    prompt = Prompt.from_classes(["café", "e\u0301toile", "naïve art", "狗猫", "собака", "dog"])
    tokens = phrase_tokens(tokenizer, prompt)
    assert tokens[0] == ["cafe"]
    assert "".join(tokens[1]).replace("##", "") == "etoile"
    assert tokens[2] == ["naive", "art"]
    assert len(tokens[3]) == 2  # one token per Chinese character, known or not
    assert tokens[4] and tokens[5] == ["dog"]


def test_part_of_a_chinese_sentence(tokenizer):
    prompt = Prompt.from_caption("大人小人", [[(1, 2)]])
    assert phrase_tokens(tokenizer, prompt) == [["人"]]


def test_union_of_spans(tokenizer):
    prompt = Prompt.from_caption("red and blue balls", [[(0, 3), (13, 18)], [(8, 18)]])
    assert phrase_tokens(tokenizer, prompt) == [["red", "balls"], ["blue", "balls"]]


def test_phrase_without_tokens(tokenizer):
    prompt = Prompt.from_caption("dog \u200b cat", [[(0, 3)], [(4, 5)]])
    with pytest.raises(PromptError, match="has no token"):
        positive_map(prompt, tokenizer.encode(prompt.caption).offsets)


def test_phrases_without_spans_or_tokens_have_no_tokens():
    offsets = [(0, 0), (0, 3), (4, 7), (0, 0)]
    rows = overlapping_tokens([[[2, 5]], [], [(3, 4)]], offsets)
    assert rows.tolist() == [[False, True, True, False], [False] * 4, [False] * 4]
    assert overlapping_tokens([], offsets).shape == (0, 4)


def class_map(class_ids, tokens):
    prompt = Prompt.from_classes([f"name{i}" for i in range(len(class_ids))], class_ids)
    rows = torch.zeros(len(tokens), 9, dtype=torch.bool)
    for row, of_phrase in zip(rows, tokens):
        row[of_phrase] = True
    return ClassMap.build(prompt, rows)


def test_two_phrases_of_one_class_are_merged_by_their_maximum():
    merging = class_map([5, 2, 5], [[1], [2], [3]])
    logits = torch.zeros(2, 9)
    logits[0, 1:4] = torch.tensor([1.0, 0.5, -1.0])
    logits[1, 1:4] = torch.tensor([-2.0, 0.5, 3.0])
    assert merging.class_ids.tolist() == [2, 5]
    expected = torch.tensor([[0.5, 1.0], [0.5, 3.0]]).sigmoid()
    torch.testing.assert_close(merging.scores(logits), expected)


def test_phrase_score_is_the_mean_of_its_tokens():
    logits = torch.arange(9.0)[None] - 3
    expected = torch.tensor([-2.0, 1.0, 2.0]).sigmoid().mean()
    torch.testing.assert_close(class_map([0], [[1, 4, 5]]).scores(logits), expected.view(1, 1))


def test_scores_of_a_model_in_half_precision():
    logits = torch.tensor([[0.0] * 9], dtype=torch.bfloat16)
    assert class_map([0], [[1, 4]]).scores(logits).tolist() == [[0.5]]


def test_a_factor_of_each_phrase_goes_into_its_scores_alone():
    """Before the best phrase of a class is taken; which tokens are whose stays."""
    plain = class_map([5, 2, 5], [[1], [2], [3]])
    weighed = plain.weighed(torch.tensor([0.1, 0.5, 0.8]))
    found = weighed.scores(torch.zeros(1, 9))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.4]]))
    classes = torch.tensor([5, 2])
    assert torch.equal(weighed.tokens_of(classes), plain.tokens_of(classes))


def test_tokens_of_a_class_are_those_of_all_its_phrases():
    rows = class_map([5, 2, 5], [[1], [2, 3], [7]]).tokens_of(torch.tensor([5, 2, 5]))
    assert [row.nonzero().flatten().tolist() for row in rows] == [[1, 7], [2, 3], [1, 7]]


def test_a_prompt_without_phrases_has_no_classes():
    nothing = ClassMap.build(Prompt.unwritten(), torch.zeros(0, 9, dtype=torch.bool))
    assert nothing.scores(torch.zeros(3, 9)).shape == (3, 0)
    assert nothing.tokens_of(torch.empty(0, dtype=torch.int64)).shape == (0, 9)
