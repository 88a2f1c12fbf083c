"""Which words are asked for, and what is right."""

import math
from types import SimpleNamespace

import pytest
import torch

from glipv2_d2.language import Prompt
from glipv2_d2.scenes.masked_words import mask_phrases, masked_word_accuracy, word_questions


def asked(caption, objects):
    return [(q.prompt.names[0], q.kind, q.decided) for q in word_questions(caption, objects)]


def test_words_and_what_decides_them():
    objects = {("red", "star"), ("blue", "ring"), ("red", "ring")}
    assert asked("a red star and a blue ring", objects) == [
        ("red", "color", True),  # there is one color of stars
        ("star", "shape", False),  # red are a star and a ring
        ("blue", "color", False),
        ("ring", "shape", True),
    ]
    assert asked("two blue rings", objects)[1] == ("rings", "shape", True)
    assert asked("everything red and the star", objects) == [
        ("red", "color", False),
        ("star", "shape", False),
    ]
    assert asked("the only red object", {("red", "star")}) == [("red", "color", True)]
    assert asked("a starfish, credible", objects) == []


def test_the_question_is_that_word_only():
    caption = "a red star and a red ring"
    first, _, third, _ = word_questions(caption, {("red", "star"), ("red", "ring")})
    assert first.prompt.spans == (((2, 5),),) and third.prompt.spans == (((17, 20),),)
    assert first.prompt.caption == caption


def test_masking(tokenizer):
    prompts = [Prompt.from_caption("a red star", [[(2, 5)]]), Prompt.parse("[caterpillars]")]
    tokens = tokenizer(prompts)
    shown, masked = mask_phrases(tokens, 103)
    assert masked[0].nonzero().flatten().tolist() == [2]
    assert shown.input_ids[0, 2] == 103 and shown.input_ids[0, 3] == tokens.input_ids[0, 3]
    pieces = masked[1].sum().item()
    assert pieces > 1 and (shown.input_ids[1, 1 : 1 + pieces] == 103).all()
    assert shown.input_ids[1, 1 + pieces] == tokens.input_ids[1, 1 + pieces]


class FakeModel:
    """Says the color that the image's first pixel stands for, whatever it is asked."""

    device = torch.device("cpu")

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.mlm_head = SimpleNamespace(logits=lambda words: words)
        self.batches = []

    def preprocess_image(self, inputs):
        return torch.stack([x["image"] for x in inputs])

    def visual_features(self, images):
        return [images]

    def language_backbone(self, tokens):
        self.batches.append(len(tokens))
        assert ((tokens.input_ids == self.tokenizer.mask_token_id).sum(1) == 1).all()
        return tokens.mask.shape

    def neck(self, levels, shape):
        said = torch.nn.functional.one_hot(levels[0], 30522)
        return levels, said[:, None].expand(*shape, -1)


def test_right_and_other_image_by_hand(tokenizer):
    colors = ["red", "blue", "red", "green"]
    ids = [tokenizer.tokenizer.convert_tokens_to_ids(c) for c in colors]
    records = [
        {"file_name": str(i), "caption": f"a {c} star", "id": x}
        for i, (c, x) in enumerate(zip(colors, ids))
    ]
    records[1]["caption"] = "the blue ring and the red star"  # the blue ring only is said
    objects = {r["file_name"]: {(c, "star")} for r, c in zip(records, colors)}
    objects["1"] = {("blue", "ring"), ("red", "star"), ("pink", "star")}
    model = FakeModel(tokenizer)

    def read_image(record):
        return {"image": torch.tensor(record["id"])}

    result = masked_word_accuracy(model, records, read_image, objects, batch_size=3)
    # Color words: red; blue, red (may be pink); red; green. Shapes: never said.
    assert result["right_image"]["color"] == {
        "words": 5, "top1": 4 / 5, "decided_words": 4, "decided_top1": 1.0
    }  # fmt: skip
    assert result["right_image"]["shape"]["words"] == 5
    assert result["right_image"]["shape"]["top1"] == 0
    # Shown are the images of records 2, 3, 0, 1: red; green, green; red; blue.
    assert result["other_image"]["color"] == {
        "words": 5, "top1": 2 / 5, "decided_words": 4, "decided_top1": 2 / 4
    }  # fmt: skip
    assert max(model.batches) == 3


def test_no_words(tokenizer):
    records = [{"file_name": str(i), "caption": "nothing", "id": 0} for i in range(2)]
    result = masked_word_accuracy(
        FakeModel(tokenizer), records, lambda r: {"image": torch.tensor(0)}, {"0": (), "1": ()}
    )
    assert result["right_image"]["shape"]["words"] == 0
    assert math.isnan(result["right_image"]["shape"]["top1"])


def test_what_cannot_be_asked(tokenizer):
    with pytest.raises(ValueError, match="no mlm_head"):
        masked_word_accuracy(SimpleNamespace(mlm_head=None), [{}, {}], None, {})
    with pytest.raises(ValueError, match="two or more"):
        masked_word_accuracy(FakeModel(tokenizer), [{}], None, {})
