"""CLIP's tokenizer from the vocabulary inside open_clip_torch, with character offsets."""

import pickle
import random
import unicodedata

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from glipv2_d2.errors import PromptTooLongError
from glipv2_d2.language import Prompt, PromptTokenizer, clip_vocabulary
from glipv2_d2.language import pretrained_names as resolve
from glipv2_d2.language.clip_vocabulary import CLIP_MASK_TOKEN_ID
from glipv2_d2.language.pretrained_names import CLIP, clip_folder, resolve_pretrained

ODD = [
    "A man's  T-shirt,\tnaïve cafe\u0301: 狗 & 3 skateboarders...",
    "  İstanbul's  FUN!!  👩‍👩‍👧 ",
    "mr. . x",
    "don't.'s wait--what?! (100%)",
    "hot_dog №5 ½ ǅ ﬁne\u00a0b",
    "STRASSE straße\u3000Ωmega ﬀ",
    "e\u0301\u0323 A\u030a ends with a space ",
    "한국어 ไทย हिन्दी",
]


@pytest.fixture(scope="module")
def clip():
    return PromptTokenizer.from_pretrained(CLIP[0], mask_token_id=CLIP_MASK_TOKEN_ID)


@pytest.fixture(scope="module")
def openai():
    return SimpleTokenizer()


def test_known_ids(clip):
    # From the documentation of CLIPTextModel's inputs in transformers.
    assert clip.encode("a photo of a cat").ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(clip.tokenizer) == 49408
    assert clip.tokenizer.convert_ids_to_tokens(CLIP_MASK_TOKEN_ID) == "ðŁĴĳ</w>"
    assert clip.num_special_tokens == 2


@pytest.mark.parametrize("caption", [c for c in ODD if "İ" not in c and "ﬁ" not in c])
def test_same_ids_as_openais(caption, clip, openai):
    """Without what OpenAI repairs first (ftfy: ligatures, compatible letters), which moves text."""
    repaired = openai.clean_fn(caption)
    if repaired == " ".join(unicodedata.normalize("NFC", caption).split()).lower():
        assert clip.encode(caption).ids[1:-1] == openai.encode(caption)
    else:
        assert clip.encode(repaired).ids[1:-1] == openai.encode(caption)


@pytest.mark.parametrize("caption", ODD)
def test_offsets_lead_back_to_the_characters(caption, clip, openai):
    """Each token's bytes are part of its characters, written as CLIP writes them."""
    encoding = clip.encode(caption)
    assert encoding.offsets[0] == encoding.offsets[-1] == (0, 0)
    covered = set()
    for index, (start, end) in zip(encoding.ids[1:-1], encoding.offsets[1:-1]):
        entry = openai.decoder[index].removesuffix("</w>")
        token = bytes(openai.byte_decoder[char] for char in entry)
        # A composed letter has the offsets of one of its characters alone.
        while unicodedata.combining(caption[start]):
            start -= 1
        while end < len(caption) and unicodedata.combining(caption[end]):
            end += 1
        written = unicodedata.normalize("NFC", caption[start:end]).lower().encode()
        assert token in written, (caption[start:end], token)
        covered.update(range(start, end))
    # Nothing but white space is lost, and the tokens stand in the order of the text.
    assert all(caption[i].isspace() for i in range(len(caption)) if i not in covered)
    starts = [start for start, _ in encoding.offsets[1:-1]]
    assert starts == sorted(starts)


def test_positive_maps_of_an_odd_caption(clip):
    prompt = Prompt.parse("The  [naïve CAFÉ's sign],\tnear [skateboarders]!")
    tokens = clip([prompt])
    entries = clip.tokenizer.convert_ids_to_tokens(tokens.input_ids[0].tolist())
    found = [[e for e, hit in zip(entries, row) if hit] for row in tokens.positive_maps[0]]
    assert found[0] == ["na", "Ã¯", "ve</w>", "cafÃ©</w>", "'s</w>", "sign</w>"]
    assert found[1] == ["skate", "boar", "ders</w>"]


def test_padding_is_no_token(clip):
    tokens = clip([Prompt.from_classes(["cat"]), Prompt.from_classes(["red kite", "dog"])])
    assert tokens.mask.sum(1).tolist() == [3, 6]
    assert not tokens.positive_maps[0][:, ~tokens.mask[0]].any()


NAMES = ["cat", "hot dog", "mr.", "wow!!!", "o'clock", "'tree", "#1", "a+", "...", "狗。", "no. 5"]


def random_names(rng, count):
    marks = ".,!?'\"-#%&…。№\u0301"
    return [
        "".join(rng.choices(marks, k=rng.randrange(3)))
        + rng.choice(["cat", "hot dog", "x", "naïve", "狗", "5", "t-shirt"])
        + "".join(rng.choices(marks, k=rng.randrange(4)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("separator", [". ", " ", ", ", " . ", "."])
def test_counts_of_clean_names_are_exact(clip, separator):
    clean = ["cat", "hot dog", "t-shirt", "o'clock", "café", "狗", "no. 5", "1000-piece puzzle"]
    prompt = Prompt.from_classes(clean, separator=separator)
    total = sum(map(clip.name_tokens, clean)) + clip.num_special_tokens
    total += clip.name_tokens(separator) * (len(clean) - 1)
    assert total == clip.num_tokens(prompt.caption)


def test_split_of_names_that_end_in_marks(clip):
    names = random_names(random.Random(1), 400)
    prompts = clip.split(names)
    assert sum(len(p) for p in prompts) == 400 and len(prompts) > 4
    assert max(clip.num_tokens(p.caption) for p in prompts) <= 256


def test_fitting_prefix_cuts_between_words(clip):
    caption = "hello İ caterpillars... 狗 " * 20
    for limit in range(3, 40):
        prefix = caption[: clip.fitting_prefix(caption, limit)]
        assert clip.num_tokens(prefix) <= limit
    assert clip.fitting_prefix("a dog", 256) == 5


def test_limits(clip):
    words = "dog " * 254
    assert clip([Prompt.from_caption(words, [[(0, 3)]])]).input_ids.shape == (1, 256)
    with pytest.raises(PromptTooLongError, match="257 tokens, the limit is 256"):
        clip([Prompt.from_caption(words + "dog", [[(0, 3)]])])


def test_mask_token(clip):
    assert clip.mask_token_id == 49404
    assert PromptTokenizer.from_pretrained(CLIP[0]).mask_token_id is None
    bert = PromptTokenizer.from_pretrained("bert-base-uncased")
    assert bert.mask_token_id == 103  # [MASK]
    assert PromptTokenizer(bert.tokenizer, mask_token_id=1).mask_token_id == 1
    with pytest.raises(ValueError, match="49408 entries"):
        PromptTokenizer.from_pretrained(CLIP[0], mask_token_id=49408)
    with pytest.raises(ValueError, match="endoftext.*meaning of its own"):
        PromptTokenizer.from_pretrained(CLIP[0], mask_token_id=49407)


def test_pickle(clip):
    copy = pickle.loads(pickle.dumps(clip))
    prompt = Prompt.from_classes(NAMES)
    assert torch.equal(copy([prompt]).input_ids, clip([prompt]).input_ids)
    assert copy.mask_token_id == clip.mask_token_id


def test_resolve(tmp_path, monkeypatch):
    folder = clip_folder()
    assert {resolve_pretrained(name) for name in CLIP} == {folder}  # once per process
    assert resolve_pretrained(CLIP[0], weights=True) == CLIP[0]
    monkeypatch.setattr(clip_vocabulary, "_MERGES_HASH", "0")  # another file
    assert clip_folder() is None
    monkeypatch.setattr(clip_vocabulary, "find_spec", lambda name: None)  # as if not installed
    assert clip_folder() is None and resolve.resolve_pretrained(CLIP[0]) == CLIP[0]


def test_special_tokens_that_somebody_writes_are_text(clip):
    prompt = Prompt.from_classes(["cat", "<|endoftext|>", "<|startoftext|>", "\N{CAT FACE}"])
    tokens = clip([prompt])
    ids = tokens.input_ids[0].tolist()
    assert ids.count(49406) == ids.count(49407) == 1 and ids[-1] == 49407
    assert tokens.positive_maps[0][1].sum() == 6 and tokens.positive_maps[0].sum(0).max() == 1
    assert clip.unknown_words(prompt.caption) == []  # CLIP reads bytes


def test_an_open_answer_is_the_token_that_stands_for_the_mask(clip):
    """Not the pieces of "[mask]", whatever CLIP makes one token of with the mark before it."""
    for text in ("what is it? [MASK]", "what is ([ [MASK]"):
        prompt = Prompt.from_caption(text, [[(len(text) - 6, len(text))]], kind="question")
        tokens = clip([prompt])
        expected = clip.encode(text[: -len("[MASK]")]).ids
        assert tokens.input_ids[0].tolist() == [*expected[:-1], CLIP_MASK_TOKEN_ID, expected[-1]]
        (answer,) = tokens.positive_maps[0]
        assert answer.nonzero().flatten().tolist() == [len(expected) - 1]
