import pytest
from detectron2.data import transforms as T

from glipv2_d2.data.mappers.grounding import (
    CUT,
    DROPPED_PHRASES,
    DROPPED_TOKENLESS,
)
from glipv2_d2.errors import DataError
from glipv2_d2.language import Prompt
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


def question(image_file, text, *annotations, **fields):
    return record(image_file, list(annotations), caption=text, task="question", **fields)


def unannotated(made):
    return {key: value for key, value in made.items() if key != "annotations"}


def test_a_question_with_the_boxes_of_its_answer(image_file, tokenizer):
    star = box(0, 0, 10, 10, spans=[[18, 22], [24, 30]])  # the star is what the answer is about
    ring = box(20, 0, 10, 10, spans=[[18, 22]])
    text = "what color is the star? [MASK]"
    source = question(image_file, text, star, ring, answers={"red": 1.0})
    output = mapper(tokenizer)(source)
    prompt = output["prompt"]
    assert (prompt.kind, prompt.names) == ("question", ("star", "star [MASK]"))
    assert prompt.answer_span == (24, 30)
    assert output["instances"].gt_classes.tolist() == [1, 0]
    assert output["answers"] == {"red": 1.0}


@pytest.mark.parametrize("task", ["question", "caption"])
def test_boxes_that_are_not_known_are_not_called_absent(image_file, tokenizer, task):
    """Without `annotations` nothing is known, with an empty list that there are none."""
    made = record(image_file, [], caption="a red star", task=task, answers={"red": 1.0})
    known, unknown = mapper(tokenizer)(made), mapper(tokenizer)(unannotated(made))
    assert len(known["instances"]) == 0 and "instances" not in unknown
    for output in (known, unknown):
        assert output["prompt"].kind == task and len(output["prompt"]) == 0
    # Of a caption that is to be grounded alone the boxes are known in any case.
    assert "instances" in mapper(tokenizer)(record(image_file, [], caption="a red star"))


def test_captions_that_are_learnt_have_their_phrases(image_file, tokenizer):
    star = box(0, 0, 10, 10, spans=[[2, 10]])
    made = record(image_file, [star], caption="a red star", task="caption")
    output = mapper(tokenizer)(made)
    assert output["prompt"] == Prompt.from_caption("a red star", [[(2, 10)]], kind="caption")
    assert output["instances"].gt_classes.tolist() == [0] and "answers" not in output


def test_no_captions_of_other_images_stand_around_a_task(image_file, tokenizer):
    convert = mapper(tokenizer, negative_captions=4)
    convert.prepare("set", birds(1000))
    for task in ("question", "caption"):
        fields = {"caption": "a cat", "task": task, "answers": {}, "dataset_name": "set"}
        prompts = [convert(record(image_file, [], **fields))["prompt"] for _ in range(10)]
        assert {(p.caption, p.own_span) for p in prompts} == {("a cat", None)}


@pytest.mark.parametrize(
    ("text", "answers", "flipped"),
    [
        ("where is the star?", {"left": 0.3, "top": 1.0}, False),
        ("what is left of the star?", {"ring": 1.0}, False),
        ("where is the star?", {"top": 1.0}, True),
        ("is it black?", {}, True),
    ],
)
def test_an_answer_that_says_left_stays_left(image_file, tokenizer, text, answers, flipped):
    convert = mapper(tokenizer, [T.RandomFlip(prob=1.0)])
    source = unannotated(question(image_file, text, answers=answers))
    assert convert(source)["image"][0, 0, 0] == (255 if flipped else 0)


def test_a_question_that_is_too_long_keeps_its_mask(image_file, tokenizer):
    """Its words before it go, and with them their boxes; what is left out is counted."""
    short = PromptTokenizer(tokenizer.tokenizer, max_tokens=8)
    text = "what is on the caterpillar of the dog? [MASK]"
    annotations = [
        box(0, 0, 10, 10, spans=[[0, 4]]),
        box(20, 0, 10, 10, spans=[[15, 26], [39, 45]]),
        box(40, 0, 10, 10, spans=[[34, 37]]),
    ]
    convert = mapper(short)
    output = convert(question(image_file, text, *annotations, answers={"red": 1.0}))
    prompt = output["prompt"]
    assert prompt.caption == "what is on the [MASK]" and prompt.names == ("what", "[MASK]")
    assert output["instances"].gt_classes.tolist() == [0, 1]
    tokens = short([prompt])
    assert tokens.input_ids.shape == (1, 7) and short.mask_token_id in tokens.input_ids
    assert convert.report.totals()[DROPPED_PHRASES] == convert.report.totals()[CUT] == 1
    # With the mask it has eight tokens, one that is no mask would be two more: all of it fits.
    fits = unannotated(question(image_file, "what is on the dog [MASK]", answers={}))
    assert convert(fits)["prompt"].caption == "what is on the dog [MASK]"
    assert convert.report.totals()[CUT] == 1
    long = unannotated(question(image_file, "what is on the red dog [MASK]", answers={}))
    assert convert(long)["prompt"].caption == "what is on the red [MASK]"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "question", "caption": "why?"}, "task 'question' without 'answers' cannot be"),
        ({"task": "caption", "references": ["a"]}, "task 'caption' without 'caption' cannot be"),
    ],
)
def test_records_of_a_test_set_are_not_trained_on(image_file, tokenizer, fields, message):
    with pytest.raises(DataError, match=rf"a\.png: a record of the {message} trained on"):
        mapper(tokenizer)(unannotated(record(image_file, [], **fields)))


def test_prompts_of_tasks_at_test_time(image_file, tokenizer):
    def prompt(**fields):
        (made,) = mapper(tokenizer, is_train=False)(unannotated(record(image_file, [], **fields)))[
            "prompt"
        ]
        return made

    assert prompt(task="caption", references=["a star"]) == Prompt.unwritten()
    asked = prompt(task="question", caption="why?", answers={"so": 1.0})
    assert asked == Prompt.from_caption("why?", [], kind="question")
    # A caption that is there is fed as it stands, and never continued.
    fed = prompt(task="caption", caption="a star.", phrases=[[[2, 6]]])
    assert (fed.kind, fed.names) == ("caption", ("star",))
    assert prompt(task="caption", caption="a star.").names == ("a star.",)
