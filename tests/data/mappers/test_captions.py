import pytest

from glipv2_d2.data.mappers.grounding import (
    DROPPED_PHRASES,
    DROPPED_TOKENLESS,
)
from glipv2_d2.errors import DataError
from glipv2_d2.language.tokenizer import PromptTokenizer
from tests.support.record_mapping import box, mapper, record


def test_long_captions_are_cut_between_words(image_file, tokenizer):
    short = PromptTokenizer(tokenizer.tokenizer, max_tokens=8)
    caption = "a cat beside a dog and caterpillars and a bird"
    annotations = [
        box(0, 0, 10, 10, spans=[[2, 5]]),
        box(20, 0, 10, 10, spans=[[15, 18], [42, 46]]),
        box(40, 0, 10, 10, spans=[[42, 46]]),
    ]
    convert = mapper(short)
    output = convert(record(image_file, annotations, caption=caption))
    assert output["prompt"].caption == "a cat beside a dog and"
    assert output["prompt"].names == ("cat", "dog")
    assert output["instances"].gt_classes.tolist() == [0, 1]
    assert convert.report.totals()[DROPPED_PHRASES] == 1
    with pytest.raises(ValueError, match=r"a\.png: the first word"):
        convert(record(image_file, [], caption="pneumonoultramicroscopic"))


def test_phrases_that_the_tokenizer_removes(image_file, tokenizer):
    caption = "a cat and \u200b\u200b there"  # zero-width characters
    annotations = [box(0, 0, 10, 10, spans=[[2, 5]]), box(20, 0, 10, 10, spans=[[10, 12]])]
    convert = mapper(tokenizer)
    output = convert(record(image_file, annotations, caption=caption))
    assert output["prompt"].names == ("cat",) and len(output["instances"]) == 1
    assert convert.report.totals()[DROPPED_TOKENLESS] == 1
    with pytest.raises(DataError, match="leaves nothing of the caption"):
        convert(record(image_file, [], caption="\u200b"))


def birds(count):
    return [{"file_name": f"{i}.png", "caption": f"the bird {i}"} for i in range(count)]


def test_how_many_negative_captions(image_file, tokenizer):
    """GLIP-L: none with probability 0.4, else all twenty or fewer, half and half."""
    convert = mapper(tokenizer, negative_captions=4, plain_caption_prob=0.4, full_captions_prob=0.5)
    convert.prepare("set", birds(1000))
    source = record(
        image_file, [box(0, 0, 9, 9, spans=[[2, 5]])], caption="a cat", dataset_name="set"
    )
    counts = [convert(source)["prompt"].caption.count("bird") for _ in range(400)]
    shares = [counts.count(n) / 400 for n in range(5)]
    # 0: 0.4 + 0.6 * 0.5 / 4; 1 to 3: 0.6 * 0.5 / 4; 4: 0.6 * 0.5
    for share, expected in zip(shares, (0.475, 0.075, 0.075, 0.075, 0.3)):
        assert abs(share - expected) < 0.1
    with pytest.raises(ValueError, match="full_captions_prob must lie"):
        mapper(tokenizer, full_captions_prob=2)


def test_where_the_own_caption_stands_among_others(image_file, tokenizer):
    convert = mapper(tokenizer, negative_captions=4)
    convert.prepare("set", birds(1000))
    for boxes in ([box(0, 0, 9, 9, spans=[[2, 5]])], []):
        source = record(image_file, boxes, caption="a cat", dataset_name="set")
        prompts = [convert(source)["prompt"] for _ in range(40)]
        assert all(p.caption[slice(*p.own_span)] == "a cat" for p in prompts)
        places = {p.caption[: p.own_span[0]].count("bird") for p in prompts}
        assert {0, 4} <= places  # before all others and behind them
    plain = mapper(tokenizer)(source)["prompt"]
    assert plain.own_span is None
