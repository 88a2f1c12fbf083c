import copy
import logging
import pickle

import pytest
import torch

from glipv2_d2.errors import PromptError, PromptTooLongError
from glipv2_d2.language import Prompt
from glipv2_d2.language.tokenizer import PromptTokenizer

COCO_LIKE = ["person", "traffic light", "hot dog", "teddy bear", "skateboard", "t-shirt", "café"]


def test_pads_to_the_longest_prompt_only(tokenizer):
    prompts = [Prompt.from_classes(["cat"]), Prompt.parse("a [red kite] above a [dog]")]
    tokens = tokenizer(prompts)
    assert tokens.input_ids.shape == tokens.mask.shape == (2, 8)
    assert tokens.input_ids.dtype == torch.int64
    assert tokens.mask.sum(1).tolist() == [3, 8]
    assert [m.shape for m in tokens.positive_maps] == [(1, 8), (2, 8)]
    assert not tokens.positive_maps[0][:, ~tokens.mask[0]].any()
    assert len(tokens.to("cpu")) == 2


def test_same_ids_as_hugging_face(tokenizer):
    caption = "A man's t-shirt, naïve café: 狗 & 3 skateboarders."
    expected = tokenizer.tokenizer(caption)["input_ids"]
    prompt = Prompt.from_caption(caption, [[(0, 1)]])
    assert tokenizer([prompt]).input_ids[0].tolist() == expected
    assert tokenizer.num_tokens(caption) == len(expected)


def test_a_folder_is_read_anew_when_its_files_have_changed(tokenizer, tmp_path):
    tokenizer.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    first, second = (PromptTokenizer.from_pretrained(str(tmp_path)) for _ in range(2))
    first.tokenizer.model_max_length = 7  # of one tokenizer and no other
    assert second.tokenizer.model_max_length == 512
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("512", "40"))
    assert PromptTokenizer.from_pretrained(str(tmp_path), 30).tokenizer.model_max_length == 40


def test_too_long_raises(tokenizer):
    prompt = Prompt.from_classes([f"thing number {i}" for i in range(100)])
    count = tokenizer.num_tokens(prompt.caption)
    with pytest.raises(PromptTooLongError, match=rf"{count} tokens, the limit is 256: split"):
        tokenizer([prompt])
    with pytest.raises(PromptTooLongError, match="shorten the caption"):
        tokenizer([Prompt.from_caption("dog " * 255, [[(0, 3)]])])


def test_exactly_the_limit_fits(tokenizer):
    prompt = Prompt.from_caption("dog " * 254, [[(0, 3)]])
    assert tokenizer([prompt]).input_ids.shape == (1, 256)


def test_empty_input(tokenizer):
    with pytest.raises(PromptError, match="empty"):
        tokenizer([])
    with pytest.raises(TypeError, match="list of prompts"):
        tokenizer(Prompt.from_classes(["cat"]))


def test_fitting_prefix_cuts_between_words(tokenizer):
    caption = "hello caterpillars and " * 100
    for limit in range(3, 14):
        length = tokenizer.fitting_prefix(caption, limit)
        prefix = caption[:length]
        assert tokenizer.num_tokens(prefix) <= limit
        assert caption.startswith(prefix)
        assert prefix.split() == caption.split()[: len(prefix.split())]
    assert tokenizer.fitting_prefix("a dog", 256) == 5
    assert tokenizer.fitting_prefix("caterpillars", 3) == 0


def test_pickle(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    prompt = Prompt.from_classes(COCO_LIKE)
    assert torch.equal(copy([prompt]).input_ids, tokenizer([prompt]).input_ids)


def test_bad_limits(tokenizer):
    for limit in (2, 513):
        with pytest.raises(ValueError, match="max_tokens"):
            PromptTokenizer(tokenizer.tokenizer, max_tokens=limit)
    with pytest.raises(TypeError, match="fast tokenizer"):
        PromptTokenizer(object())


def test_folder_without_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OSError, match="cannot load a tokenizer"):
        PromptTokenizer.from_pretrained(str(tmp_path))


CAT, DOG = "\N{CAT FACE}", "\N{DOG FACE}"


def test_words_that_become_unknown_are_warned_of_by_name_once(caplog):
    tokenizer = PromptTokenizer.from_pretrained("minilm")
    prompt = Prompt.from_classes([CAT, "red heart", DOG, "x" * 101])
    assert tokenizer.unknown_words(prompt.caption) == [CAT, DOG, "x" * 101]
    with caplog.at_level(logging.WARNING):
        tokenizer([prompt, Prompt.from_classes(["cat"])])
        tokenizer([prompt])
    (record,) = caplog.records
    assert f"{CAT!r}, {DOG!r}" in record.getMessage() and "red heart'" not in record.getMessage()
    caplog.clear()
    tokenizer([Prompt.parse(f"a {CAT} beside the [\N{TRACTOR}]")])
    assert [CAT in r.getMessage().split(" of ")[0] for r in caplog.records] == [False]
    assert "\N{TRACTOR}" in caplog.text


def test_so_many_unknown_words_are_named(caplog, monkeypatch):
    monkeypatch.setattr("glipv2_d2.language.tokenizer.UNKNOWN_WORDS_NAMED", 2)
    tokenizer = PromptTokenizer.from_pretrained("minilm")
    for char in (CAT, DOG, "\N{TRACTOR}"):
        tokenizer([Prompt.from_classes([char])])
    assert [DOG in r.getMessage() for r in caplog.records] == [False, True]
    assert "not named" in caplog.records[-1].getMessage()


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("copied", [lambda tokenizer: tokenizer, copy.deepcopy, pickled])
def test_special_tokens_that_somebody_writes_are_text(tokenizer, copied):
    tokenizer = copied(tokenizer)
    special = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]
    caption = " ".join(words := ["cat", *special, "dog"])
    starts = [caption.index(word) for word in words]
    prompt = Prompt.from_caption(caption, [[(s, s + len(w))] for s, w in zip(starts, words)])
    tokens = tokenizer([prompt])
    ids = tokens.input_ids[0].tolist()
    assert set(ids) & set(tokenizer.tokenizer.all_special_ids) == {101, 102}
    assert ids.count(101) == ids.count(102) == 1 and not tokenizer.unknown_words(prompt.caption)
    words = tokenizer.encode(prompt.caption).tokens
    named = [[words[i] for i in row.nonzero().flatten()] for row in tokens.positive_maps[0]]
    assert named == [
        ["cat"], ["[", "cl", "##s", "]"], ["[", "sep", "]"], ["[", "pad", "]"],
        ["[", "mask", "]"], ["[", "un", "##k", "]"], ["dog"],
    ]  # fmt: skip
    assert tokenizer.num_tokens("[SEP]") == 5


def question(text, spans=()):
    return Prompt.from_caption(text, spans, kind="question")


def tokens_of(tokenizer, prompt):
    ids = tokenizer([prompt]).input_ids[0]
    return " ".join(tokenizer.tokenizer.convert_ids_to_tokens(ids))


def test_an_open_answer_is_the_mask_token(tokenizer):
    prompt = question("is it a [MASK]? red [MASK]", [[(16, 19), (20, 26)], [(20, 26)]])
    assert tokens_of(tokenizer, prompt) == "[CLS] is it a [ mask ] ? red [MASK] [SEP]"
    tokens = tokenizer([prompt, question("why?")])
    both, answer = tokens.positive_maps[0]
    assert both.nonzero().flatten().tolist() == [8, 9]
    assert answer.nonzero().flatten().tolist() == [9]
    assert tokens.input_ids[0, 9] == tokenizer.mask_token_id
    assert tokens.positive_maps[1].shape == (0, 11)
    copied = pickle.loads(pickle.dumps(tokenizer))([prompt])
    assert torch.equal(copied.input_ids[0], tokens.input_ids[0])


@pytest.mark.parametrize(
    "prompt",
    [
        question("what is it?[MASK]"),
        question("what is [MASK]?"),
        Prompt.from_caption("what is it? [MASK]", [[(0, 4)]]),
        Prompt.from_caption("what is it? [MASK]", [], kind="caption"),
    ],
)
def test_the_mask_token_that_somebody_writes_is_text(tokenizer, prompt):
    assert torch.equal(
        tokenizer([prompt]).input_ids[0], torch.tensor(tokenizer.encode(prompt.caption).ids)
    )


def test_the_open_answer_counts_as_one_token(tokenizer):
    exact = question("why " * 253 + "[MASK]")
    assert tokenizer([exact]).input_ids.shape == (1, 256)
    with pytest.raises(PromptTooLongError, match="257 tokens, the limit is 256: shorten the quest"):
        tokenizer([question("why " * 254 + "[MASK]")])


def test_an_open_answer_needs_a_mask_token(tokenizer):
    without = copy.copy(tokenizer)
    without.mask_token_id = None
    assert len(without([question("what is it?")])) == 1
    with pytest.raises(PromptError, match="leaves its answer open, and the tokenizer has no mask"):
        without([question("what is it? [MASK]")])


def test_a_caption_to_be_written_is_begun_and_ended(tokenizer):
    assert tokens_of(tokenizer, Prompt.unwritten()) == "[CLS] [SEP]"
    assert tokens_of(tokenizer, Prompt.unwritten("a photo")) == "[CLS] a photo [SEP]"


CAPTIONS_TO_READ_AGAIN = (
    "a red kite above two dogs.",
    "the dog's ball, a t-shirt and 3.5 (three and a half) kites; don't do not!",
    "skateboarders: \u00e9t\u00e9 -- 'wow' ... ok?!",
    "two small blue-green stars to the left of a large ring",
)


@pytest.mark.parametrize("caption", CAPTIONS_TO_READ_AGAIN)
@pytest.mark.parametrize("name", ["minilm", "openai/clip-vit-base-patch32"])
def test_what_is_decoded_becomes_the_same_tokens(name, caption):
    tokenizer = PromptTokenizer.from_pretrained(name)
    ids = tokenizer.encode(caption).ids
    text = tokenizer.decode(ids)
    assert tokenizer.encode(text).ids == ids
    assert text == text.strip() and "[SEP]" not in text and "<|" not in text


def test_decoded_text_has_no_spaces_that_nobody_writes(tokenizer):
    for caption in ("a man's t-shirt, red.", "it's blue; isn't it?", "a dog"):
        assert tokenizer.decode(tokenizer.encode(caption).ids) == caption


def test_writable_tokens(tokenizer):
    words = tokenizer.tokenizer.convert_tokens_to_ids
    assert not tokenizer.writable[words(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])].any()
    assert not tokenizer.writable[words(["[unused0]", "[unused98]"])].any()
    assert tokenizer.writable[words(["kite", "##s", ".", "["])].all()
    clip = PromptTokenizer.from_pretrained("openai/clip-vit-base-patch32", mask_token_id=49404)
    assert (~clip.writable).nonzero().flatten().tolist() == [49404, 49406, 49407]
