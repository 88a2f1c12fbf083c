"""Detect, merge, refine: boxes as without a mask head, and masks that belong to them."""

import pytest
import torch
from detectron2.structures import Instances, ROIMasks

from glipv2_d2 import Prompt
from glipv2_d2.errors import PromptError
from glipv2_d2.modeling.mask_output import postprocess
from glipv2_d2.modeling.meta_arch import inference
from tests.support.tiny import detect, tiny_masks_model, tiny_model, tiny_question

PROMPT = Prompt.from_classes(["cat", "dog", "red kite"])


@pytest.fixture(scope="module")
def masks_model():
    return tiny_masks_model().eval()


def question(prompt=PROMPT, **fields):
    return tiny_question(prompt, **fields)


@torch.no_grad()
def detect_small(model, *inputs, **options):
    """Instances in the model's input size, with ROIMasks."""
    return model.inference(list(inputs), do_postprocess=False, **options)


def marked_by_their_box(model, monkeypatch):
    """Each mask is constant, and tells where the box begins."""

    def refine(levels, words, boxes, tokens):
        return [(b[:, 0] / 1000)[:, None, None].expand(-1, 28, 28) for b in boxes]

    monkeypatch.setattr(model.mask_head, "refine", refine)


def test_boxes_are_those_of_the_model_without_mask_head(masks_model):
    plain = tiny_model().eval()
    plain.load_state_dict(masks_model.state_dict(), strict=False)
    twice = [Prompt.from_classes(["cat", "dog"]), Prompt.from_classes(["puppy", "bird"], [1, 2])]
    inputs = [
        question(height=128, width=192),
        {**question(height=64, width=80, seed=1, prompt=twice), "height": 100, "width": 125},
    ]
    for expected, found in zip(detect(plain, *inputs), detect(masks_model, *inputs)):
        assert len(expected) > 20
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_classes, expected.pred_classes)
        assert not expected.has("pred_masks")
        assert found.pred_masks.shape == (len(expected), *expected.image_size)
        assert found.pred_masks.dtype == torch.bool


def test_masks_stay_with_their_boxes_through_the_merging_of_prompts(masks_model, monkeypatch):
    """Two prompts ask for class 1, whose candidates go through one NMS; all are sorted anew."""
    marked_by_their_box(masks_model, monkeypatch)
    prompts = [Prompt.from_classes(["cat", "dog"]), Prompt.from_classes(["puppy", "bird"], [1, 2])]
    (merged,) = detect_small(masks_model, question(prompt=prompts))
    assert len(merged) > 20 and len(merged.pred_classes.unique()) == 3
    marks = merged.pred_boxes.tensor[:, 0] / 1000
    assert torch.equal(merged.pred_masks.tensor[:, 0, 0], marks)


TWICE = [
    Prompt.from_classes(["cat", "dog", "kite"]),
    Prompt.from_classes(["bird"], [7]),
    Prompt.from_classes(["puppy", "cow"], [1, 8]),
]


@pytest.mark.parametrize("batch", [8, 1])
def test_no_masks_of_what_scores_too_little(masks_model, monkeypatch, batch):
    """Nor is there any of it: what is left is as it would be without the limit."""
    monkeypatch.setattr(masks_model, "prompt_batch_size", batch)
    questions = [question(prompt=TWICE), question(seed=1)]
    everything = detect(masks_model, *questions)
    asked, original = [], masks_model.mask_head.refine
    monkeypatch.setattr(
        masks_model.mask_head, "refine", lambda *args: asked.extend(args[2]) or original(*args)
    )
    limits = [instances.scores[9].item() for instances in everything]
    limited = [{**q, "min_score": limit} for q, limit in zip(questions, limits)]
    found = detect(masks_model, *limited)
    assert [len(f) for f in found] == [10, 10] and sum(map(len, asked)) == 20
    for one, whole in zip(found, everything):
        # Masks are computed in a batch of another size: rounding may move a pixel at their edge.
        assert torch.equal(one.pred_boxes.tensor, whole.pred_boxes.tensor[:10])
        assert torch.equal(one.pred_classes, whole.pred_classes[:10])
        assert (one.pred_masks != whole.pred_masks[:10]).float().mean() < 1e-3
    plain = tiny_model().eval()
    plain.load_state_dict(masks_model.state_dict(), strict=False)
    for one, boxes in zip(found, detect(plain, *limited)):
        assert torch.equal(one.pred_boxes.tensor, boxes.pred_boxes.tensor)


@pytest.mark.parametrize("batch", [8, 2, 1])
def test_classes_of_several_prompts_get_masks_after_their_nms(masks_model, monkeypatch, batch):
    """They are those of the prompt that found each box, whose fusion may have to be repeated."""
    monkeypatch.setattr(masks_model, "prompt_batch_size", batch)
    fused, asked = [], []
    original = masks_model.mask_head.refine
    monkeypatch.setattr(
        masks_model.mask_head, "refine", lambda *args: asked.extend(args[2]) or original(*args)
    )
    hook = masks_model.neck.register_forward_hook(lambda *args: fused.append(len(args[2][1])))
    (found,) = detect(masks_model, question(prompt=TWICE))
    hook.remove()
    assert sum(map(len, asked)) == len(found) > 20
    assert fused == {8: [3], 2: [2, 1], 1: [1, 1, 1]}[batch]
    monkeypatch.setattr(inference, "PAIRS_KEPT", 0)  # the first batch is kept in any case
    hook = masks_model.neck.register_forward_hook(lambda *args: fused.append(len(args[2][1])))
    (again,) = detect(masks_model, question(prompt=TWICE))
    hook.remove()
    assert fused == {8: [3, 3], 2: [2, 1] + [2, 1, 1], 1: [1] * 3 + [1] * 5}[batch]
    assert torch.equal(again.pred_masks, found.pred_masks)
    # All candidates of each prompt alone, where nothing is removed.
    monkeypatch.setattr(masks_model.postprocessor, "nms_threshold", 2.0)
    monkeypatch.setattr(masks_model.postprocessor, "detections_per_prompt", 10_000)
    single = [detect(masks_model, question(prompt=prompt))[0] for prompt in TWICE]
    assert sum(map(len, single)) > 2 * len(found)
    finders = set()
    for box, label, score, mask in zip(
        found.pred_boxes.tensor, found.pred_classes, found.scores, found.pred_masks
    ):
        candidates = []
        for prompt, alone in enumerate(single):
            near = (alone.pred_boxes.tensor - box).abs().amax(dim=1) < 1e-2
            near &= (alone.pred_classes == label) & ((alone.scores - score).abs() < 1e-5)
            candidates += [(prompt, alone.pred_masks[i]) for i in near.nonzero()[:, 0]]
        ((prompt, expected),) = candidates
        assert (mask != expected).sum() <= 2
        finders.add((prompt, int(label)))
    assert {(0, 1), (2, 1)} <= finders


def test_masks_see_the_words_of_their_class_and_the_image_of_their_prompt(masks_model, monkeypatch):
    calls = []
    original = masks_model.mask_head.refine
    monkeypatch.setattr(
        masks_model.mask_head, "refine", lambda *args: calls.append(args) or original(*args)
    )
    prompts = [PROMPT, Prompt.from_classes(["bird", "tall bird"], [7, 7])]
    fused = []
    hook = masks_model.neck.register_forward_hook(lambda module, args, output: fused.append(output))
    results = detect(masks_model, question(), question(seed=1, prompt=prompts[1]))
    hook.remove()
    ((levels, words, boxes, tokens),) = calls
    assert levels is fused[0][0] and words is fused[0][1]
    for own, found in zip(boxes, results):  # continuous, as they are returned
        assert torch.equal(own, found.pred_boxes.tensor)
    assert len(levels[0]) == len(words) == len(boxes) == len(tokens) == 2
    ids = masks_model.tokenizer(prompts).input_ids
    decode = masks_model.tokenizer.tokenizer.decode
    asked = {decode(ids[0][row]) for row in tokens[0].bool()}
    assert asked == {"cat", "dog", "red kite"}
    # Two phrases of one class: the words of both.
    assert {decode(ids[1][row]) for row in tokens[1].bool()} == {"bird tall bird"}


def test_a_full_mask_fills_its_box(masks_model, monkeypatch):
    """Inclusive boxes become continuous before masks are cut and pasted; borders are reached."""

    def refine(levels, words, boxes, tokens):
        return [torch.ones(len(b), 28, 28) for b in boxes]

    monkeypatch.setattr(masks_model.mask_head, "refine", refine)
    (found,) = detect(masks_model, question())
    height, width = found.image_size
    boxes = found.pred_boxes.tensor
    at_border = (boxes[:, :2] == 0).all(dim=1) & (boxes[:, 2] == width) & (boxes[:, 3] == height)
    assert at_border.any() and not at_border.all()
    for box, mask in zip(boxes, found.pred_masks):
        # grid_sample fades over half a mask cell at the edge: the threshold 0.5 is at the edge.
        x0, y0, x1, y1 = (box - 0.5).ceil().clamp(min=0).long().tolist()
        expected = torch.zeros_like(mask)
        expected[y0:y1, x0:x1] = True
        assert (mask != expected).sum() <= mask.shape[0] + mask.shape[1]  # ties at the threshold
        if x0 == 0:
            assert mask[(y0 + y1) // 2, 0]


def test_nothing_found(masks_model, monkeypatch):
    monkeypatch.setattr(masks_model.postprocessor, "score_threshold", 1.0)
    for found in detect(masks_model, question(), question(prompt=[PROMPT, PROMPT])):
        assert len(found) == 0 and found.pred_masks.shape == (0, 64, 96)


def test_masks_before_and_after_postprocessing(masks_model):
    inputs = [{**question(), "height": 100, "width": 150}, question(prompt=[PROMPT, PROMPT])]
    expected = detect(masks_model, *inputs)
    for x, before, small in zip(inputs, expected, detect_small(masks_model, *inputs)):
        assert small.image_size == (64, 96) and isinstance(small.pred_masks, ROIMasks)
        assert torch.equal(postprocess(small, x).pred_masks, before.pred_masks)
        assert before.pred_masks.shape == (len(before), x["height"], x["width"])


def test_boxes_only(masks_model, monkeypatch):
    """For each image: the others of the batch have their masks."""
    inputs = [question(), question(seed=1), question(seed=2)]
    expected = detect(masks_model, *inputs)
    refined, original = [], masks_model.mask_head.refine
    monkeypatch.setattr(
        masks_model.mask_head,
        "refine",
        lambda *args: refined.append(len(args[2])) or original(*args),
    )
    found = detect(masks_model, inputs[0], {**inputs[1], "boxes_only": True}, inputs[2])
    assert refined == [1, 1] and [x.has("pred_masks") for x in found] == [True, False, True]
    for one, other in zip(found, expected):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)


def test_masks_of_known_boxes(masks_model):
    """Those of the boxes that the model found itself, by whichever prompt."""
    prompts = [PROMPT, Prompt.from_classes(["bird"], [7]), Prompt.from_classes(["cow"], [5])]
    inputs = [question(prompt=prompts), question(height=64, width=80, seed=1)]
    found = detect_small(masks_model, *inputs)
    assert found[0].pred_classes.unique().tolist() == [0, 1, 2, 5, 7]
    given = [Instances(x.image_size, **x.get_fields()) for x in found]
    for x in given:
        x.remove("pred_masks")
    for own, expected in zip(detect_small(masks_model, *inputs, detected_instances=given), found):
        torch.testing.assert_close(
            own.pred_masks.tensor, expected.pred_masks.tensor, rtol=0, atol=1e-4
        )
        assert torch.equal(own.scores, expected.scores)
        assert torch.equal(own.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert not given[0].has("pred_masks")  # what is given is left alone
    pasted = masks_model.inference(inputs, given)
    assert pasted[1]["instances"].pred_masks.shape == (len(found[1]), 64, 80)
    (without,) = tiny_masks_model(mask_head=None).eval().inference(inputs[:1], given[:1])
    assert torch.equal(without["instances"].scores, found[0].scores)


def test_known_boxes_of_a_class_that_nobody_asks_for(masks_model):
    (found,) = detect_small(masks_model, question())
    with pytest.raises(PromptError, match="have the class 0, which no prompt of the image asks"):
        masks_model.inference([question(prompt=Prompt.from_classes(["bird"], [7]))], [found])


def test_masks_do_not_depend_on_the_other_images_of_the_batch(masks_model):
    inputs = [
        question(), question(height=96, width=96, seed=1), question(height=64, width=70, seed=2)
    ]  # fmt: skip
    together = detect_small(masks_model, *inputs)
    alone = [detect_small(masks_model, x)[0] for x in inputs]
    for found, expected in zip(together, alone):
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
        assert len(expected) > 5
    for known, expected in zip(detect_small(masks_model, *inputs, detected_instances=alone), alone):
        torch.testing.assert_close(
            known.pred_masks.tensor, expected.pred_masks.tensor, rtol=0, atol=1e-4
        )


def test_the_first_prompt_that_asks_for_a_class_gives_its_words(masks_model):
    first, second = Prompt.from_classes(["cat"], [1]), Prompt.from_classes(["kitten"], [1])
    (found,) = detect_small(masks_model, question(prompt=first))

    def masks(prompt):
        (known,) = detect_small(masks_model, question(prompt=prompt), detected_instances=[found])
        return known.pred_masks.tensor

    both, alone, other = masks([first, second]), masks([first]), masks([second])
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-4)
    assert (other - alone).abs().max() > 1e-3


def test_images_are_grouped_by_their_prompts():
    asked = [[PROMPT]] * 3 + [[PROMPT] * 5] + [[PROMPT] * 2] * 2
    inputs = [{} for _ in asked]
    groups = inference.groups_of_images(inputs, asked, 4)
    assert groups == [slice(0, 3), slice(3, 4), slice(4, 6)]
    inputs[1]["boxes_only"] = inputs[2]["boxes_only"] = True
    groups = inference.groups_of_images(inputs, asked, 4)
    assert groups == [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 6)]


@torch.no_grad()
def test_an_encoded_image_is_asked_again(masks_model):
    """The backbone runs once, and the answers are those of separate calls, bit by bit."""
    images = masks_model.encode([question()])
    prompts = [PROMPT, TWICE, Prompt.from_classes(["cow"], [3])]
    for prompt in prompts:
        (found,) = inference.outputs_of(masks_model, images, [{"prompt": prompt}])
        found = found["instances"]
        (expected,) = detect_small(masks_model, question(prompt=prompt))
        assert len(found) > 5 and torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.pred_masks.tensor, expected.pred_masks.tensor)
