"""Detection, questions and captions in one training step, and inputs that teach nothing."""

import pytest
import torch
from detectron2.config import instantiate

from glipv2_d2.errors import ConfigError, DataError
from glipv2_d2.language import Prompt
from tests.support.tiny import tiny_input, tiny_masks_input, tiny_tasks_config

GROUNDING = ("loss_token", "loss_box", "loss_centerness", "loss_contrast", "loss_mask")
LOSSES = (*GROUNDING, "loss_vqa", "loss_caption")


@pytest.fixture(scope="module")
def task_model():
    """In float64, as far as fvcore's focal loss and the mask head go along: another batch sums in
    another order."""
    torch.manual_seed(0)
    model = instantiate(tiny_tasks_config()).double().train()
    for parameter in model.parameters():  # biases and scales that begin at 0 matter, too
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def without_boxes(prompt, seed, **fields):
    given = {**tiny_input(seed=seed), "prompt": prompt, **fields}
    del given["instances"]
    return given


def question(text, seed, answers):
    return without_boxes(Prompt.from_caption(text, [], kind="question"), seed, answers=answers)


def caption(text, seed):
    return without_boxes(Prompt.from_caption(text, [], kind="caption"), seed)


def detection():
    grounding = Prompt.parse("a [red kite] above the [dog]")
    second = tiny_masks_input(seed=1, boxes=((8, 8, 40, 40),), classes=(1,))
    return [tiny_masks_input(), {**second, "prompt": grounding}]


def questions():
    return [
        question("what color is the kite? [MASK]", 2, {"red": 1.0, "blue": 0.3}),
        question("how many?", 3, {"2": 0.6, "eleven": 0.9}),
        question("is there a dog?", 4, {}),
    ]


def captions():
    return [caption("a red kite above two dogs.", 5), caption("the sea", 6)]


def of(model, batch, *names):
    """Losses of a batch, and the gradients of the sum of those of these names."""
    model.zero_grad(set_to_none=True)
    losses = model(batch)
    sum(losses[name] for name in names).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {name: loss.item() for name, loss in losses.items()}, gradients


def test_a_mixed_batch_is_its_tasks_apart(task_model):
    """Each loss has its own normalizer, and no image sees another, so that losses and gradients
    are those of each task alone, up to the rounding of the two losses that are float32."""
    (first, second), (one, two, three), (long, short) = detection(), questions(), captions()
    mixed, together = of(task_model, [one, first, long, two, short, second, three], *LOSSES)
    assert tuple(mixed) == LOSSES and all(value > 0 for value in mixed.values())
    parts = {
        GROUNDING: of(task_model, [first, second], *GROUNDING),
        ("loss_vqa",): of(task_model, [one, two, three], "loss_vqa"),
        ("loss_caption",): of(task_model, [long, short], "loss_caption"),
    }
    for names, (losses, _) in parts.items():
        assert {name: mixed[name] for name in names} == pytest.approx(
            {name: losses[name] for name in names}, rel=1e-6
        )
        # What is no task of a batch adds nothing to it.
        assert all(losses[name] == 0 for name in LOSSES if name not in names)
    for name, gradient in together.items():
        apart = sum(of_part[name] for _, of_part in parts.values() if of_part[name] is not None)
        torch.testing.assert_close(gradient, apart, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("batch", [detection, questions, captions])
def test_every_parameter_has_a_gradient_whatever_the_tasks(task_model, batch):
    """Or processes whose batches have other tasks would wait for each other."""
    _, gradients = of(task_model, batch(), *LOSSES)
    assert [name for name, gradient in gradients.items() if gradient is None] == []


def test_known_boxes_of_a_question_are_learnt_and_do_not_change_its_answer(task_model):
    """An empty list of boxes is known, too: nothing in the image is of these words."""
    text = "what color is the kite? [MASK]"
    prompt = Prompt.from_caption(text, [[(18, 22)], [(24, 30)]], kind="question")
    unknown = question(text, 2, {"red": 1.0})
    none = {**unknown, "instances": tiny_masks_input(boxes=(), classes=())["instances"]}
    grounded = {**unknown, "prompt": prompt, "instances": tiny_masks_input()["instances"]}
    grounded["instances"].gt_classes.clamp_(max=1)
    a, b, c = (of(task_model, [x], *LOSSES)[0] for x in (unknown, none, grounded))
    assert a["loss_vqa"] == b["loss_vqa"] == c["loss_vqa"] > 0
    assert all(a[name] == 0 for name in GROUNDING)
    assert b["loss_token"] > 0 and b["loss_box"] == b["loss_mask"] == 0
    assert all(c[name] > 0 for name in GROUNDING)


def test_inputs_are_left_as_they_were_given(task_model):
    batch = [*questions(), *captions()]
    keys = [set(x) for x in batch]
    task_model(batch)
    assert [set(x) for x in batch] == keys and "instances" not in batch[0]


def without(key):
    return {name: value for name, value in tiny_input().items() if name != key}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (without("instances"), 'comes with a detection prompt and no "instances"'),
        (
            without_boxes(Prompt.parse("a [dog]"), 0),
            'comes with a grounding prompt and no "instances"',
        ),
        (
            without_boxes(Prompt.from_caption("why?", [], kind="question"), 0),
            'comes with a question prompt and no "answers"',
        ),
    ],
)
def test_inputs_without_anything_to_learn(task_model, given, message):
    with pytest.raises(DataError, match=rf"image_0\.png {message}, so that there is nothing"):
        task_model([tiny_input(seed=1), given])


@pytest.mark.parametrize(
    ("batch", "head"), [(questions, "model.vqa_head"), (captions, "model.caption_head")]
)
def test_a_task_without_its_head(batch, head):
    """Also where boxes are known: the words would be learned as those of another task."""
    plain = instantiate(tiny_tasks_config(vqa_head=None, caption_head=None)).train()
    grounded = {**batch()[0], "instances": tiny_input(boxes=(), classes=())["instances"]}
    for given in (batch()[0], grounded):
        with pytest.raises(ConfigError, match=f"no head that learns from it: give it a {head}, or"):
            plain([tiny_input(), given])
