"""Answers and captions of an export."""

import pytest
import torch

from glipv2_d2 import Prompt
from glipv2_d2.modeling.generation import Decoding, write_captions
from tests.support.exported_model import NAMES, assert_same_detections, image


@torch.no_grad()
def test_answers_have_the_model_s_scores(telling, loaded_telling):
    words = torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([[6], [1], [4]])
    expected = telling.vqa_head.logits(words, mask)
    assert loaded_telling.vqa_head.answers == telling.vqa_head.answers
    torch.testing.assert_close(loaded_telling.vqa_head.logits(words, mask), expected)


@torch.no_grad()
@pytest.mark.parametrize("beam_size", [1, 3])
def test_captions_are_the_model_s_word_for_word(telling, loaded_telling, beam_size):
    pixels = [torch.from_numpy(image(64, 90, seed).transpose(2, 0, 1).copy()) for seed in range(3)]
    inputs = [{"image": pixels[i] // (i + 1)} for i in range(3)]
    prompts = [Prompt.unwritten(), Prompt.unwritten("a red"), Prompt.unwritten()]
    decoding = Decoding(beam_size=beam_size, max_length=8)
    expected, found = (
        write_captions(model, model.encode(inputs).features, prompts, decoding)
        for model in (telling, loaded_telling)
    )
    assert [x.caption for x in found] == [x.caption for x in expected]
    assert len({x.caption for x in found}) == 3
    assert [x.score for x in found] == pytest.approx([x.score for x in expected], abs=1e-5)


@torch.no_grad()
def test_masks_are_the_model_s(telling, loaded_telling):
    pixels = torch.from_numpy(image(64, 96).transpose(2, 0, 1).copy())
    for least in (0.0, 1.0):  # the latter: nothing is found
        inputs = [{"image": pixels, "prompt": Prompt.from_classes(NAMES), "min_score": least}]
        found, expected = (model(inputs)[0]["instances"] for model in (loaded_telling, telling))
        assert found.pred_masks.shape == expected.pred_masks.shape
    inputs[0]["min_score"] = 0.0
    (found,), (expected,) = (m.inference(inputs, None, False) for m in (loaded_telling, telling))
    torch.testing.assert_close(found.pred_masks.tensor, expected.pred_masks.tensor)
    assert expected.pred_masks.tensor.std() > 1e-3


@torch.no_grad()
def test_questions_and_captions_of_one_batch(telling, loaded_telling):
    """The same answers, captions and boxes, by the model's own inference."""
    pixels = torch.from_numpy(image(64, 96).transpose(2, 0, 1).copy())
    question = Prompt.from_caption(
        "is there a cat? [MASK]", [[(11, 14)], [(16, 22)]], kind="question"
    )
    inputs = [{"image": pixels, "prompt": p} for p in (question, Prompt.unwritten("a red cat"))]
    expected, found = telling(inputs), loaded_telling(inputs)
    assert found[0]["answer"] == expected[0]["answer"]
    assert found[1]["caption"] == expected[1]["caption"]
    assert found[1]["prompt"] == expected[1]["prompt"]
    for a, b in zip(found, expected):
        assert_same_detections(a["instances"], b["instances"])
    assert loaded_telling.vqa_head.ground_answer
    assert loaded_telling.caption_head.decoding == telling.caption_head.decoding
