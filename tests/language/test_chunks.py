import pytest

from glipv2_d2.errors import PromptError, PromptTooLongError
from glipv2_d2.language import Prompt


def test_counts_of_names_add_up(tokenizer):
    names = ["traffic light", "t-shirt", "café", "mr. potato head", "o'clock", "狗", "caterpillar"]
    names += ["person", "1000-piece puzzle"]
    for separator in (". ", " ", ", ", " . "):
        prompt = Prompt.from_classes(names, separator=separator)
        total = sum(map(tokenizer.name_tokens, names)) + tokenizer.num_special_tokens
        total += tokenizer.name_tokens(separator) * (len(names) - 1)
        assert total == tokenizer.num_tokens(prompt.caption)


def test_split_fits_and_keeps_ids(tokenizer):
    names = [f"thing number {i}" for i in range(300)]
    ids = list(range(1000, 1300))
    prompts = tokenizer.split(names, ids)
    assert [n for p in prompts for n in p.names] == names
    assert [i for p in prompts for i in p.class_ids] == ids
    counts = [tokenizer.num_tokens(p.caption) for p in prompts]
    assert max(counts) <= tokenizer.max_tokens
    # No chunk could have taken the first name of the next one.
    for prompt, following in zip(prompts, prompts[1:]):
        longer = Prompt.from_classes([*prompt.names, following.names[0]])
        assert tokenizer.num_tokens(longer.caption) > tokenizer.max_tokens


def test_split_by_size(tokenizer):
    prompts = tokenizer.split([f"class{i}" for i in range(85)], size=40)
    assert [len(p) for p in prompts] == [40, 40, 5]
    assert [p.class_ids[0] for p in prompts] == [0, 40, 80]


def test_bad_splits(tokenizer):
    with pytest.raises(PromptError, match="empty"):
        tokenizer.split([])
    with pytest.raises(PromptError, match="class ids"):
        tokenizer.split(["a", "b"], [1])
    with pytest.raises(PromptError, match="at least one"):
        tokenizer.split(["a"], size=0)
    with pytest.raises(PromptTooLongError, match="tokens, the limit"):
        tokenizer.split(["dog", "dog " * 300])


def test_words_of_a_class_keep_its_id(tokenizer):
    names = [["cat", "kitten", "tabby"], "dog", ("bird",)]
    prompts = tokenizer.split(names, size=2)
    assert [p.names for p in prompts] == [("cat", "kitten"), ("tabby", "dog"), ("bird",)]
    assert [p.class_ids for p in prompts] == [(0, 0), (0, 1), (2,)]
