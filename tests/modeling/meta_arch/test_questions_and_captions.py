"""A batch may ask for boxes, answers and captions; each image's output is that of a call alone."""

import copy

import pytest
import torch
from detectron2.structures import Instances

from glipv2_d2 import Prompt
from glipv2_d2.errors import ConfigError, PromptError, UsageError
from glipv2_d2.language.prompt_text import read_caption, read_question
from glipv2_d2.modeling import GLIPWithTTA
from glipv2_d2.modeling.generation import Decoding
from glipv2_d2.modeling.heads import AnsweringHead
from tests.support.tiny import tiny_model, tiny_question
from tests.support.tiny_understanding import ANSWERS, tiny_understanding_model

QUESTION = read_question("what color is the star?", ground_answer=True)
NO_PHRASES = Prompt.from_caption("what is it?", (), kind="question")
CLASSES = Prompt.from_classes(["cat", "dog"])
CAPTION = Prompt.from_caption("a cat sees a dog", [[(2, 5)], [(13, 16)]], kind="caption")
MIXED = [
    tiny_question(QUESTION),
    tiny_question(Prompt.unwritten(), seed=1),
    tiny_question([CLASSES, Prompt.from_classes(["cow"], [2])], seed=2),
    tiny_question(NO_PHRASES, seed=3),
    tiny_question(CAPTION, seed=4),
    tiny_question(Prompt.unwritten("a cat"), seed=5, height=100),
    tiny_question(QUESTION, seed=6, boxes_only=True),
]


@pytest.fixture(scope="module")
def understanding():
    return tiny_understanding_model()


@torch.no_grad()
def run(model, *inputs):
    return model(list(inputs))


def same(found, expected):
    """Up to the order of sums; another batch, another order."""
    assert found.keys() == expected.keys()
    texts = ("answer", "caption", "prompt")
    assert [found.get(key) for key in texts] == [expected.get(key) for key in texts]
    assert [a for a, _ in found.get("answers", ())] == [a for a, _ in expected.get("answers", ())]
    numbers = [
        [p for _, p in x.get("answers", ())] + [x.get("caption_score", 0.0)]
        for x in (found, expected)
    ]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    a, b = found["instances"], expected["instances"]
    assert a.image_size == b.image_size and a.pred_phrases == b.pred_phrases
    torch.testing.assert_close(a.scores, b.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, atol=1e-3, rtol=1e-5)
    assert a.has("pred_masks") == b.has("pred_masks")


def test_a_question_is_answered_and_grounded(understanding):
    (output,) = run(understanding, tiny_question(QUESTION))
    answers, probabilities = zip(*output["answers"])
    assert len(set(answers)) == 5 and set(answers) <= set(ANSWERS)
    assert output["answer"] == answers[0]
    assert list(probabilities) == sorted(probabilities, reverse=True)
    assert all(0 < p < 1 for p in probabilities)
    assert output["prompt"].caption == QUESTION.caption
    assert output["prompt"].names == ("star", answers[0])
    instances = output["instances"]
    assert set(instances.pred_phrases) == {"star", answers[0]}
    assert instances.pred_masks.shape == (len(instances), 64, 96)


def test_the_answers_are_those_of_the_head_on_the_fused_words(understanding):
    tokens = understanding.tokenizer([QUESTION])
    with torch.no_grad():
        features = understanding.encode([tiny_question(QUESTION)]).features
        _, words = understanding.neck(features, understanding.language_backbone(tokens))
        probabilities = understanding.vqa_head.logits(words, tokens.mask).sigmoid()[0]
    (output,) = run(understanding, tiny_question(QUESTION))
    expected = {answer: p.item() for answer, p in zip(ANSWERS, probabilities)}
    assert dict(output["answers"]) == pytest.approx({a: expected[a] for a, _ in output["answers"]})
    assert set(expected) - set(dict(output["answers"])) == {min(expected, key=expected.get)}


def test_a_question_without_phrases_has_no_boxes(understanding):
    (output,) = run(understanding, tiny_question(NO_PHRASES))
    assert output["answer"] in ANSWERS and len(output["instances"]) == 0
    assert output["instances"].pred_masks.shape == (0, 64, 96)


def test_a_caption_is_written_and_then_grounded_as_it_stands(understanding):
    (output,) = run(understanding, tiny_question(Prompt.unwritten()))
    prompt = output["prompt"]
    assert prompt == read_caption(output["caption"]) and len(prompt) > 0
    assert output["caption_score"] < 0
    assert set(output["instances"].pred_phrases) <= set(prompt.names)
    (grounded,) = run(understanding, tiny_question(prompt))
    assert grounded.keys() == {"instances"}
    same({**output, "instances": grounded["instances"]}, output)


def test_a_caption_goes_on_from_its_beginning_as_its_decoding_says(understanding):
    long, short = run(
        understanding,
        tiny_question(Prompt.unwritten("a cat")),
        tiny_question(Prompt.unwritten("a cat"), decoding=Decoding(beam_size=1, max_length=1)),
    )
    assert long["caption"].startswith("a cat") and short["caption"].startswith("a cat")
    assert long["caption"].startswith(short["caption"]) and long["caption"] != short["caption"]


def test_the_phrases_of_a_caption_are_found_by_the_back_end_of_the_input(
    understanding, monkeypatch
):
    monkeypatch.setattr(
        "glipv2_d2.language.prompt_text.noun_phrase_extractor",
        lambda name: {"rules": lambda text: [], "first": lambda text: [(0, text.find(" "))]}[name],
    )
    first, none = run(
        understanding,
        tiny_question(Prompt.unwritten(), phrases="first"),
        tiny_question(Prompt.unwritten()),
    )
    assert first["prompt"].names == (first["caption"].split()[0],)
    assert len(none["prompt"]) == len(none["instances"]) == 0
    assert none["caption"] == first["caption"]


@pytest.mark.parametrize("prompt_batch_size", [2, 8])
def test_a_mixed_batch_equals_calls_alone(understanding, monkeypatch, prompt_batch_size):
    monkeypatch.setattr(understanding, "prompt_batch_size", prompt_batch_size)
    together = run(understanding, *MIXED)
    for x, output in zip(MIXED, together):
        (alone,) = run(understanding, x)
        same(output, alone)
    assert [sorted(output.keys() - {"instances"}) for output in together] == [
        ["answer", "answers", "prompt"],
        ["caption", "caption_score", "prompt"],
        [],
        ["answer", "answers", "prompt"],
        [],
        ["caption", "caption_score", "prompt"],
        ["answer", "answers", "prompt"],
    ]
    assert [output["instances"].has("pred_masks") for output in together] == [True] * 6 + [False]


def test_inference_without_post_processing_gives_instances(understanding):
    with torch.no_grad():
        small = understanding.inference(MIXED, do_postprocess=False)
    assert all(isinstance(instances, Instances) for instances in small)
    for instances, output in zip(small, run(understanding, *MIXED)):
        assert torch.equal(instances.scores, output["instances"].scores)


def test_known_boxes_of_a_question_are_refined_and_it_is_answered(understanding):
    (output,) = run(understanding, tiny_question(QUESTION))
    known = output["instances"][:3]
    known.remove("pred_masks")
    with torch.no_grad():
        (refined,) = understanding.outputs([tiny_question(QUESTION)], [known])
    assert refined["answer"] == output["answer"]
    assert len(refined["instances"]) == 3 and refined["instances"].has("pred_masks")


def test_a_pair_goes_through_the_neck_once(understanding):
    calls = []
    hook = understanding.neck.register_forward_hook(lambda *args: calls.append(1))
    run(understanding, tiny_question(QUESTION), tiny_question(QUESTION, seed=1))
    hook.remove()
    assert len(calls) == 1  # for the answers, the boxes and their masks of both


class Oracle(AnsweringHead):
    """Says what it has read."""

    def answer(self, words, mask):
        return [[(f"{n} tokens", 1.0)] for n in mask.sum(dim=1).tolist()]


def test_any_answering_head_answers(understanding):
    model = copy.deepcopy(understanding)
    model.vqa_head = None
    model.oracle = Oracle()
    # [CLS] what is it ? [SEP]
    (output,) = run(model, tiny_question(NO_PHRASES))
    assert output["answers"] == [("6 tokens", 1.0)]


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (QUESTION, ConfigError, r"a question is answered by a model with model\.vqa_head"),
        (Prompt.unwritten(), ConfigError, r"a caption is written by .* model\.caption_head"),
    ],
)
def test_a_model_without_the_head_says_so_before_anything_is_computed(prompt, error, message):
    model = tiny_model().eval()
    model.backbone.register_forward_hook(lambda *args: pytest.fail("the image was encoded"))
    with pytest.raises(error, match=message):
        run(model, tiny_question(CLASSES), tiny_question(prompt))


@pytest.mark.parametrize("prompt", [QUESTION, Prompt.unwritten()])
def test_a_question_and_a_caption_are_asked_alone(understanding, prompt):
    with pytest.raises(PromptError, match="alone, not as one of an image's 2 prompts"):
        run(understanding, tiny_question([CLASSES, prompt]))


def test_a_question_without_an_image(understanding):
    with pytest.raises(UsageError, match=r'input 1 of the batch has no "image"'):
        run(understanding, tiny_question(QUESTION), {"prompt": QUESTION})


@pytest.mark.parametrize("prompt", [QUESTION, Prompt.unwritten()])
def test_test_time_augmentation_answers_nothing(understanding, prompt):
    augmented = GLIPWithTTA(understanding, min_sizes=(64,), flip=False).eval()
    with pytest.raises(UsageError, match="neither answers questions nor writes captions"):
        augmented([tiny_question(prompt)])
    assert augmented([tiny_question(CAPTION)])[0].keys() == {"instances"}
