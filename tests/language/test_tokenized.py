"""The protocol: a tokenizer of the user's own, from the sampler of prompts to class scores."""

import pickle
import random
import re
from dataclasses import replace

import pytest
import torch

from glipv2_d2.errors import PromptTooLongError
from glipv2_d2.language import Prompt, TokenizedPrompts, Tokenizer
from glipv2_d2.language.chunks import split_vocabulary
from glipv2_d2.language.negatives import DetectionPromptSampler, surround_with_captions
from glipv2_d2.language.positive_map import ClassMap
from glipv2_d2.language.tokenized import check_length


class Words:
    """Each word is a token, and so is each mark; one special token begins a prompt."""

    max_tokens, num_special_tokens, mask_token_id, vocabulary_size = 12, 1, None, 1000

    def offsets(self, caption):
        return [(0, 0), *(match.span() for match in re.finditer(r"\w+|[^\w\s]", caption))]

    def num_tokens(self, caption):
        return len(self.offsets(caption))

    def name_tokens(self, name):
        return self.num_tokens(name) - 1

    def fitting_prefix(self, caption, max_tokens=None):
        offsets = self.offsets(caption)[: max_tokens or self.max_tokens]
        return ([0] + [end for _, end in offsets])[-1]

    def split(self, names, class_ids=None, size=None, separator=". "):
        return split_vocabulary(self, names, class_ids, size, separator)

    def __call__(self, prompts):
        offsets = [self.offsets(prompt.caption) for prompt in prompts]
        ids = [[hash(p.caption[a:b]) % 1000 for a, b in row] for p, row in zip(prompts, offsets)]
        return TokenizedPrompts.collate(prompts, ids, offsets, self.max_tokens)


@pytest.fixture
def words() -> Tokenizer:
    return Words()


def test_a_vocabulary_is_cut_under_its_limit(words):
    prompts = words.split([f"thing {i}" for i in range(10)], range(100, 110))
    assert [len(prompt) for prompt in prompts] == [4, 4, 2]  # 1 + 4 * 2 + 3 of 12 tokens
    assert prompts[2].class_ids == (108, 109)
    with pytest.raises(PromptTooLongError, match="has 13 tokens, the limit is 12: shorten the cl"):
        words.split(["cat", "dog " * 12])


def test_tuned_prompts_keep_their_ids(words):
    plain = Prompt.from_classes(["cat"])
    tuned = replace(plain, embedding_id="pets/0")
    assert words([plain, tuned]).to("cpu").embedding_ids == [None, "pets/0"]
    assert words([plain]).embedding_ids is None
    assert pickle.loads(pickle.dumps(tuned)) == tuned != plain and len({tuned, plain}) == 2


def test_a_vocabulary_fits_though_a_name_was_counted_too_low(words, monkeypatch):
    monkeypatch.setattr(words, "name_tokens", lambda name: 1)
    prompts = words.split([f"thing {i}" for i in range(10)])
    assert [len(prompt) for prompt in prompts] == [4, 4, 2]


def test_training_prompts_fit_its_limit(words):
    random.seed(0)
    sampler = DetectionPromptSampler([f"thing {i}" for i in range(10)], words)
    prompt, dropped = sampler([2, 3, 5, 7, 8])
    assert words.num_tokens(prompt.caption) == 12 and len(dropped) == 1
    caption, _ = surround_with_captions("a dog", "a.jpg", [("b.jpg", "the sea " * 3)], 1, words)
    assert words.num_tokens(caption) in (10, 11)


def test_scores_of_its_tokens_become_scores_of_classes(words):
    prompt = Prompt.from_classes(["cat", "hot dog"], [7, 3])
    (tokens,) = words([prompt]).positive_maps
    logits = torch.tensor([[-9.0, 2.0, -9.0, 0.0, 1.0]])  # start, cat, stop, hot, dog
    one, two = torch.tensor([1.0, 2.0]).sigmoid().tolist()
    expected = torch.tensor([[(0.5 + one) / 2, two]])
    torch.testing.assert_close(ClassMap.build(prompt, tokens).scores(logits), expected)


def test_all_parts_go_to_a_device(tokenizer):
    tokens = tokenizer([Prompt.from_classes(["cat"]), Prompt.parse("a [red kite]")])
    moved = tokens.to("meta")
    parts = [moved.input_ids, moved.mask, moved.own_words, *moved.positive_maps]
    assert {part.device.type for part in parts} == {"meta"} and len(moved) == 2


@pytest.mark.parametrize(
    ("prompt", "remedy"),
    [
        (Prompt.from_classes(["cat", "dog"]), "with 2 phrases has 9 tokens, the limit is 8: split"),
        (Prompt.from_classes(["cat"]), "shorten the class name"),
        (Prompt.parse("a [cat]"), "shorten the caption"),
        (Prompt.from_caption("a cat?", (), kind="question"), "shorten the question"),
    ],
)
def test_what_can_be_done_about_a_prompt_that_is_too_long(prompt, remedy):
    check_length(prompt, 8, 8)
    with pytest.raises(PromptTooLongError, match=remedy):
        check_length(prompt, 9, 8)


def test_the_structure_of_each_text(tokenizer):
    question = Prompt.from_caption("what is it?", [], kind="question")
    plain = tokenizer([Prompt.from_classes(["cat"]), Prompt.parse("a [cat]"), question])
    assert plain.causal is None and plain.seen_by_image is None
    mixed = tokenizer([question, Prompt.unwritten(), Prompt.parse("a [cat]")])
    assert mixed.causal.tolist() == [False, True, False]
    assert mixed.seen_by_image.tolist() == [True, False, True]
    moved = mixed.to("meta")
    assert moved.causal.device.type == moved.seen_by_image.device.type == "meta"
    assert plain.to("meta").causal is None
