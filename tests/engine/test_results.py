"""The predictor's answers and captions: one image or several, encoded before, in threads."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from glipv2_d2 import Prompt
from glipv2_d2.engine.predictor import GroundingPredictor
from glipv2_d2.engine.results import Answer, Caption
from glipv2_d2.errors import ConfigError, PromptError, PromptTooLongError, UsageError
from glipv2_d2.modeling.generation import Decoding
from tests.support.tiny import tiny_model
from tests.support.tiny_understanding import ANSWERS, tiny_understanding_model

QUESTION = "what color is the star?"


def image(height=32, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def answering():
    model = tiny_understanding_model()
    del model.neck.blocks[1:]  # what is asked is the same, and a call takes half the time
    return GroundingPredictor(model, min_size=32, max_size=64, batch_size=2, score_threshold=0.9)


def same(found, expected):
    """All but the last digits: a batch sums in another order."""
    assert type(found) is type(expected)
    assert found.prompt == expected.prompt and found[0] == expected[0]
    a, b = found.instances, expected.instances
    assert a.pred_phrases == b.pred_phrases and a.has("pred_masks") == b.has("pred_masks")
    torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-3, rtol=1e-5)


def test_an_answer_has_the_best_box_of_each_phrase(answering):
    (found,) = answering.answer(image(), QUESTION)
    assert isinstance(found, Answer) and found.answer == found.answers[0][0]
    assert found.prompt.caption == f"{QUESTION} [MASK]"
    assert found.instances.image_size == (32, 40)
    assert list(found.instances.pred_phrases) == ["star", found.answer]  # in the order of the text
    assert found.instances.pred_masks.shape == (2, 32, 40)
    everything = answering(image(), found.prompt, score_threshold=0.1)[0]
    for phrase in (0, 1):
        best = everything.scores[everything.pred_classes == phrase].max()
        assert found.instances.scores[phrase] == best


def test_a_caption_has_the_best_box_of_each_phrase(answering):
    (found,) = answering.caption(image())
    assert isinstance(found, Caption) and found.score < 0
    assert found.prompt.caption == found.caption and found.prompt.kind == "caption"
    classes = found.instances.pred_classes.tolist()
    assert classes == sorted(set(classes))
    assert set(found.instances.pred_phrases) <= set(found.prompt.names)


def test_results_are_printed_in_a_line(answering):
    (found,) = answering.answer(image(), QUESTION)
    text, score = found.answers[1]
    assert f"Answer({found.answer!r}, of {found.answer!r} " in repr(found)
    assert f", {text!r} {score:.2f}, " in repr(found)
    assert repr(found).endswith(f"; boxes of 'star', {found.answer!r})")
    nothing = found.instances[:0]
    caption = Caption("a star", -0.25, nothing, found.prompt)
    assert str(caption) == "Caption('a star', score -0.25; boxes of nothing)"


def test_thresholds_and_masks(answering):
    (found,) = answering.answer(image(), QUESTION)
    between = found.instances.scores.mean().item()
    (fewer,) = answering.answer(image(), QUESTION, score_threshold=between, masks=False)
    assert len(fewer.instances) == 1 and not fewer.instances.has("pred_masks")
    assert fewer.answers == found.answers
    strict = GroundingPredictor(answering.model, min_size=32, max_size=64, phrase_threshold=1.0)
    assert len(strict.answer(image(), QUESTION)[0].instances) == 0
    assert len(strict.caption(image())[0].instances) == 0
    for bad in (35, "0.5"):
        with pytest.raises(UsageError, match="phrase_threshold must"):
            GroundingPredictor(answering.model, phrase_threshold=bad)
        with pytest.raises(UsageError, match="score_threshold must"):
            answering.answer(image(), QUESTION, score_threshold=bad)


def test_batches_equal_single_images(answering):
    images = [image(32, 40, 1), image(32, 60, 2), image(32, 40, 3)]
    questions = [QUESTION, "is there a cat?", "how many dogs are there?"]
    for pixels, question, answer in zip(images, questions, answering.answer(images, questions)):
        same(answer, answering.answer(pixels, question)[0])
    for pixels, caption in zip(images, answering.caption(images, "a")):
        assert caption.caption.startswith("a")
        same(caption, answering.caption(pixels, "a")[0])


def test_an_encoded_image_answers_and_has_a_caption(answering):
    calls = []
    encoded = answering.set_image(image())
    hook = answering.model.backbone.register_forward_hook(lambda *args: calls.append(1))
    decoding = Decoding(beam_size=1, max_length=2)
    answer = encoded.answer(QUESTION, masks=False)
    captions = [encoded.caption(), encoded.caption("a", decoding=decoding, score_threshold=0.5)]
    hook.remove()
    assert not calls
    same(answer, answering.answer(image(), QUESTION, masks=False)[0])
    same(captions[0], answering.caption(image())[0])
    expected = answering.caption(image(), "a", decoding=decoding, score_threshold=0.5)
    same(captions[1], expected[0])


def test_threads_share_a_predictor(answering):
    """Four threads ask for boxes, answers and captions, as one after the other."""
    encoded = answering.set_image(image())
    kinds = [
        lambda: answering.answer(image(seed=1), QUESTION)[0],
        lambda: encoded.answer("is there a cat?"),
        lambda: encoded.caption("a cat"),
        lambda: answering.caption(image(seed=2))[0],
    ]
    expected = [kind() for kind in kinds]

    def work(thread):
        answering.model.text_cache.clear()
        encoded.predict(["cat", "dog"])
        return [(k, kinds[k]()) for k in ((thread + call) % len(kinds) for call in range(4))]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, range(4)):
            for kind, found in results:
                same(found, expected[kind])


@pytest.mark.parametrize(
    "question",
    [
        "what is it?? what? really?",
        "¿de qué color es la estrella? 红心",
        "what color is the [star] left of a [ring]?",
        "star",
        "?",
    ],
)
def test_odd_questions_are_answered(answering, question):
    (found,) = answering.answer(image(), question)
    assert found.answer in ANSWERS
    assert found.prompt.caption == question.replace("[", "").replace("]", "") + " [MASK]"
    if "[" in question:
        assert found.prompt.names[:2] == ("star", "ring")


def test_an_image_with_nothing_in_it(answering):
    black = np.zeros((32, 40, 3), np.uint8)
    assert answering.answer(black, QUESTION)[0].answer in ANSWERS
    assert answering.caption(black)[0].caption


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        ("", PromptError, "the question is empty"),
        (" [MASK]", PromptError, "the question is empty"),
        ("what " * 300, PromptTooLongError, "303 tokens, the limit is 256: shorten the question"),
        ("what is the [star?", PromptError, r"'\[' without '\]'"),
        ([QUESTION], UsageError, "1 question is given for 2 images"),
        ([QUESTION] * 3, UsageError, "3 questions are given for 2 images: give one for all"),
        (["a", 5], PromptError, "a question is a text or a Prompt, got 5 of type int"),
        (None, PromptError, "a question is a text or a Prompt, got None"),
        (b"what?", PromptError, "a question is a text or a Prompt, got b'what.' of type bytes"),
        ({"a": "b"}, PromptError, "a question is a text or a Prompt, got .* of type dict"),
        (Prompt.from_classes(["cat"]), PromptError, "'cat' is no question but .* 'detection'"),
    ],
)
def test_what_is_no_question(answering, question, error, message):
    unread = ["none.png", "none.png"]  # it is refused before an image is read
    with pytest.raises(error, match=message):
        answering.answer(unread, question)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beginning": ["a", "two"]}, PromptError, "a text, one for all images, got .* type list"),
        ({"beginning": None}, PromptError, "a beginning is a text, .* got None of type NoneType"),
        ({"beginning": " "}, PromptError, "give a caption or an empty text"),
        ({"decoding": {"beam_size": 3}}, UsageError, "decoding is a Decoding, as Decoding.beam"),
    ],
)
def test_what_no_caption_is_written_with(answering, options, error, message):
    with pytest.raises(error, match=message):
        answering.caption(["none.png", "none.png"], **options)


@pytest.mark.parametrize("images", [[], None])
def test_a_question_without_an_image(answering, images):
    with pytest.raises(UsageError, match="image"):
        answering.answer(images, QUESTION)


def test_a_prompt_is_asked_as_it_is(answering):
    prompt = Prompt.from_caption(QUESTION, [[(18, 22)]], kind="question")
    (found,) = answering.answer(image(), prompt)
    assert found.prompt == prompt


def test_a_model_that_does_not_ground_its_answers_is_asked_the_question_alone(answering):
    model = copy.deepcopy(answering.model)
    model.vqa_head.ground_answer = False
    plain = GroundingPredictor(model, min_size=32, max_size=64)
    (found,) = plain.answer(image(), QUESTION)
    assert found.prompt.caption == QUESTION and set(found.instances.pred_phrases) == {"star"}


def test_models_that_cannot(answering):
    plain = GroundingPredictor(tiny_model(), min_size=32, max_size=64)
    with pytest.raises(ConfigError, match=r"model\.vqa_head"):
        plain.answer(image(), QUESTION)
    with pytest.raises(ConfigError, match=r"model\.caption_head"):
        plain.set_image(image()).caption()
    augmented = GroundingPredictor(answering.model, min_size=32, max_size=64)
    augmented.use_test_time_augmentation()
    for ask in (augmented.caption, lambda images: augmented.answer(images, QUESTION)):
        with pytest.raises(UsageError, match="test-time augmentation"):
            ask(image())
