"""GLIPv2 with a mask head: boxes as without it, masks that belong to them, and the mask stage."""

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.structures import BitMasks, Boxes, Instances, ROIMasks

from glipv2_d2 import Prompt
from glipv2_d2.config import resolve_config
from glipv2_d2.errors import ConfigError
from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.mask_output import masks_as, paste_masks
from glipv2_d2.modeling.tta import GLIPWithTTA
from tests.support.tiny import tiny_config, tiny_input, tiny_model

PROMPT = Prompt.from_classes(["cat", "dog", "red kite"])


def masked_config(**options):
    """The tiny GLIP with the mask head of the shipped configs; `options`: of the model."""
    model = tiny_config()
    model._target_ = GLIPv2
    model.mask_head = LazyConfig.load(resolve_config("mask/glipv2_t_mask.py")).model.mask_head
    model.mask_head.hourglass.channels = 16
    for key, value in options.items():
        model[key] = value
    return model


def masked(seed=0, **options):
    torch.manual_seed(seed)
    return instantiate(masked_config(**options))


@pytest.fixture(scope="module")
def model():
    """Untrained, and made to find something: class scores around a half."""
    model = masked().eval()
    with torch.no_grad():
        model.head.bias0.zero_()
    return model


def training_input(**options):
    """`tiny_input` with masks: the upper half of each box."""
    made = tiny_input(**options)
    instances = made["instances"]
    masks = torch.zeros(len(instances), *instances.image_size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, instances.gt_boxes.tensor.long().tolist()):
        mask[y0 : (y0 + y1) // 2, x0:x1] = True
    instances.gt_masks = BitMasks(masks)
    return made


def question(size=(64, 96), seed=0, prompt=PROMPT, **fields):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    return {"image": image, "prompt": prompt, **fields}


@torch.no_grad()
def detect(model, *inputs):
    return [output["instances"] for output in model(list(inputs))]


def marked_by_their_box(model, monkeypatch):
    """Each mask is constant, and tells where the box begins."""

    def predict(levels, words, boxes, tokens):
        return [(b[:, 0] / 1000)[:, None, None].expand(-1, 28, 28) for b in boxes]

    monkeypatch.setattr(model.mask_head, "predict", predict)


def test_boxes_are_those_of_the_model_without_mask_head(model):
    plain = tiny_model().eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    twice = [Prompt.from_classes(["cat", "dog"]), Prompt.from_classes(["puppy", "bird"], [1, 2])]
    inputs = [
        question((128, 192)),
        question((64, 80), seed=1, prompt=twice, height=100, width=125),
    ]
    for expected, found in zip(detect(plain, *inputs), detect(model, *inputs)):
        assert len(expected) > 20
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_classes, expected.pred_classes)
        assert not expected.has("pred_masks")
        assert found.pred_masks.shape == (len(expected), *expected.image_size)
        assert found.pred_masks.dtype == torch.bool


def test_masks_stay_with_their_boxes_through_the_merging_of_prompts(model, monkeypatch):
    """Two prompts ask for class 1, whose candidates go through one NMS; all are sorted anew."""
    marked_by_their_box(model, monkeypatch)
    prompts = [Prompt.from_classes(["cat", "dog"]), Prompt.from_classes(["puppy", "bird"], [1, 2])]
    seen, original = [], model.postprocessor.to_instances
    monkeypatch.setattr(
        model.postprocessor, "to_instances", lambda d, *args: seen.append(d) or original(d, *args)
    )
    detect(model, question(prompt=prompts))
    (merged,) = seen
    assert len(merged.scores) > 20 and len(merged.classes.unique()) == 3
    assert torch.equal(merged.masks[:, 0, 0], merged.boxes[:, 0] / 1000)


TWICE = [
    Prompt.from_classes(["cat", "dog", "kite"]),
    Prompt.from_classes(["bird"], [7]),
    Prompt.from_classes(["puppy", "cow"], [1, 8]),
]


@pytest.mark.parametrize("batch", [8, 1])
def test_no_masks_of_what_scores_too_little(model, monkeypatch, batch):
    """Nor is there any of it: what is left is as it would be without the limit."""
    monkeypatch.setattr(model, "prompt_batch_size", batch)
    questions = [question(prompt=TWICE), question(seed=1)]
    everything = detect(model, *questions)
    asked, original = [], model.mask_head.predict
    monkeypatch.setattr(
        model.mask_head, "predict", lambda *args: asked.extend(args[2]) or original(*args)
    )
    limits = [instances.scores[9].item() for instances in everything]
    limited = [{**q, "min_score": limit} for q, limit in zip(questions, limits)]
    found = detect(model, *limited)
    assert [len(f) for f in found] == [10, 10] and sum(map(len, asked)) == 20
    for one, whole in zip(found, everything):
        # Masks are computed in a batch of another size: rounding may move a pixel at their edge.
        assert torch.equal(one.pred_boxes.tensor, whole.pred_boxes.tensor[:10])
        assert torch.equal(one.pred_classes, whole.pred_classes[:10])
        assert (one.pred_masks != whole.pred_masks[:10]).float().mean() < 1e-3
    plain = tiny_model().eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    for one, boxes in zip(found, detect(plain, *limited)):
        assert torch.equal(one.pred_boxes.tensor, boxes.pred_boxes.tensor)


@pytest.mark.parametrize("batch", [8, 2, 1])
def test_classes_of_several_prompts_get_masks_after_their_nms(model, monkeypatch, batch):
    """They are those of the prompt that found each box, whose fusion may have to be repeated."""
    monkeypatch.setattr(model, "prompt_batch_size", batch)
    fused, asked = [], []
    original = model.mask_head.predict
    monkeypatch.setattr(
        model.mask_head, "predict", lambda *args: asked.extend(args[2]) or original(*args)
    )
    hook = model.neck.register_forward_hook(lambda *args: fused.append(len(args[2][1])))
    (found,) = detect(model, question(prompt=TWICE))
    hook.remove()
    assert sum(map(len, asked)) == len(found) > 20
    assert fused == {8: [3], 2: [2, 1, 2, 1], 1: [1, 1, 1, 1, 1]}[batch]
    # All candidates of each prompt alone, where nothing is removed.
    monkeypatch.setattr(model.postprocessor, "nms_threshold", 2.0)
    monkeypatch.setattr(model.postprocessor, "detections_per_prompt", 10_000)
    single = [detect(model, question(prompt=prompt))[0] for prompt in TWICE]
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


def test_masks_see_the_words_of_their_class_and_the_image_of_their_prompt(model, monkeypatch):
    calls = []
    original = model.mask_head.predict
    monkeypatch.setattr(
        model.mask_head, "predict", lambda *args: calls.append(args) or original(*args)
    )
    prompts = [PROMPT, Prompt.from_classes(["bird", "tall bird"], [7, 7])]
    fused = []
    hook = model.neck.register_forward_hook(lambda module, args, output: fused.append(output))
    results = detect(model, question(), question(seed=1, prompt=prompts[1]))
    hook.remove()
    ((levels, words, boxes, tokens),) = calls
    assert levels is fused[0][0] and words is fused[0][1]
    for own, found in zip(boxes, results):  # continuous, as they are returned: best first there
        expected = found.pred_boxes.tensor
        assert torch.equal(own.unique(dim=0), expected.unique(dim=0))
    assert len(levels[0]) == len(words) == len(boxes) == len(tokens) == 2
    ids = model.tokenizer(prompts).input_ids
    decode = model.tokenizer.tokenizer.decode
    asked = {decode(ids[0][row]) for row in tokens[0].bool()}
    assert asked == {"cat", "dog", "red kite"}
    # Two phrases of one class: the words of both.
    assert {decode(ids[1][row]) for row in tokens[1].bool()} == {"bird tall bird"}


def test_a_full_mask_fills_its_box(model, monkeypatch):
    """Inclusive boxes become continuous before masks are cut and pasted; borders are reached."""

    def predict(levels, words, boxes, tokens):
        return [torch.ones(len(b), 28, 28) for b in boxes]

    monkeypatch.setattr(model.mask_head, "predict", predict)
    (found,) = detect(model, question())
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


def test_nothing_found(model, monkeypatch):
    monkeypatch.setattr(model.postprocessor, "score_threshold", 1.0)
    for found in detect(model, question(), question(prompt=[PROMPT, PROMPT])):
        assert len(found) == 0 and found.pred_masks.shape == (0, 64, 96)


def test_forms_of_masks(model, monkeypatch):
    inputs = [question(height=100, width=150), question(prompt=[PROMPT, PROMPT])]
    expected = detect(model, *inputs)
    with masks_as(model, "roi"):
        small = detect(model, *inputs)
    for before, found in zip(expected, small):
        assert isinstance(found.pred_masks, ROIMasks)
        assert torch.equal(paste_masks(found).pred_masks, before.pred_masks)
    monkeypatch.setattr(model.mask_head, "predict", None)  # not asked
    with masks_as(model, None):
        without = detect(model, *inputs)
    for before, found in zip(expected, without):
        assert not found.has("pred_masks")
        assert torch.equal(found.pred_boxes.tensor, before.pred_boxes.tensor)


def test_masks_of_known_boxes(model):
    """Those of the boxes that the model found itself, by whichever prompt."""
    prompts = [PROMPT, Prompt.from_classes(["bird"], [7]), Prompt.from_classes(["cow"], [5])]
    inputs = [question(prompt=prompts), question((64, 80), seed=1)]
    with masks_as(model, "roi"):
        found = detect(model, *inputs)
    assert found[0].pred_classes.unique().tolist() == [0, 1, 2, 5, 7]
    masks = model.masks_of(inputs, found)
    for own, expected in zip(masks, found):
        torch.testing.assert_close(own, expected.pred_masks.tensor, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="no mask head"):
        masked(mask_head=None).eval().masks_of(inputs, found)


def test_masks_do_not_depend_on_the_other_images_of_the_batch(model):
    inputs = [question(), question((96, 96), seed=1), question((64, 70), seed=2)]
    with masks_as(model, "roi"):
        together = detect(model, *inputs)
        alone = [detect(model, x)[0] for x in inputs]
    for found, expected in zip(together, alone):
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
        assert len(expected) > 5
    known = model.masks_of(inputs, alone)
    for masks, expected in zip(known, alone):
        torch.testing.assert_close(masks, expected.pred_masks.tensor, rtol=0, atol=1e-4)


def test_the_first_prompt_that_asks_for_a_class_gives_its_words(model):
    first, second = Prompt.from_classes(["cat"], [1]), Prompt.from_classes(["kitten"], [1])
    (found,) = detect(model, question(prompt=first))
    both, alone = (
        model.masks_of([question(prompt=prompt)], [found])[0]
        for prompt in ([first, second], [first])
    )
    other = model.masks_of([question(prompt=second)], [found])[0]
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-4)
    assert (other - alone).abs().max() > 1e-3


def test_augmentation_at_test_time_averages_masks_of_the_boxes_kept(model, monkeypatch):
    tta = GLIPWithTTA(model, min_sizes=(64, 96), flip=True, detections_per_image=12).eval()
    asked, original = [], model.mask_head.predict
    monkeypatch.setattr(
        model.mask_head, "predict", lambda *args: asked.append(args[2]) or original(*args)
    )
    picture = question(height=128, width=192)
    with masks_as(tta, "roi"):
        (small,) = detect(tta, picture)
    assert [[len(boxes) for boxes in call] for call in asked] == 4 * [[12]]  # of 4 views
    (found,) = detect(tta, picture)
    assert found.pred_masks.shape == (12, 128, 192) and found.pred_masks.any(2).any(1).all()
    assert torch.equal(found.pred_masks, paste_masks(small).pred_masks)

    x0, y0, x1, y1 = found.pred_boxes.tensor.unbind(1)
    mirrored = torch.stack((192 - x1, y0, 192 - x0, y1), dim=1)
    views = []
    for scale, flip in [(1, False), (1, True), (1.5, False), (1.5, True)]:
        resized = ResizeShortestEdge(int(64 * scale), 2000)
        image = picture["image"].permute(1, 2, 0).numpy()
        image = torch.from_numpy(resized.get_transform(image).apply_image(image).copy()).permute(
            2, 0, 1
        )
        boxes = (mirrored if flip else found.pred_boxes.tensor) * scale / 2
        there = Instances(
            tuple(image.shape[1:]), pred_boxes=Boxes(boxes), pred_classes=found.pred_classes
        )
        view = {**picture, "image": image.flip(2) if flip else image}
        (masks,) = model.masks_of([view], [there])
        views.append(masks.flip(2) if flip else masks)
    torch.testing.assert_close(small.pred_masks.tensor, sum(views) / 4, rtol=0, atol=1e-5)
    assert (views[0] - views[1]).abs().max() > 1e-3


def test_augmentation_at_test_time_without_masks_or_boxes(model, monkeypatch):
    tta = GLIPWithTTA(model, min_sizes=(64,)).eval()
    with monkeypatch.context() as patch:
        patch.setattr(model.mask_head, "predict", None)  # not asked
        with masks_as(tta, None):
            (found,) = detect(tta, question())
        assert len(found) > 20 and not found.has("pred_masks")
    monkeypatch.setattr(model.postprocessor, "score_threshold", 1.0)
    (found,) = detect(tta, question())
    assert found.pred_masks.shape == (0, 64, 96)


def test_the_mask_loss_joins_the_others():
    model = masked().train()
    seen = {}
    for name in ("neck", "mask_head"):
        getattr(model, name).register_forward_hook(
            lambda module, args, output, name=name: seen.update({name: (args, output)})
        )
    losses = model([training_input(), training_input(seed=1, boxes=(), classes=())])
    levels, words, _ = seen["mask_head"][0]
    assert levels is seen["neck"][1][0] and words is seen["neck"][1][1]
    assert list(losses) == ["loss_token", "loss_box", "loss_centerness", "loss_mask"]
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    # Fine-tuning of the entire network: masks teach the neck, too.
    model.zero_grad()
    model([training_input()])["loss_mask"].backward()
    assert model.neck.blocks[-1].dynamic_conv.relu.fc1.weight.grad.abs().sum() > 0


def test_masks_of_predictions_are_trained_on(monkeypatch):
    """Matched predictions come decoded, continuous, with the box that they are matched to."""
    model = masked().train()
    seen = {}
    original = model.mask_head.forward
    monkeypatch.setattr(
        model.mask_head, "forward", lambda *args: seen.update(targets=args[2]) or original(*args)
    )
    with torch.no_grad():  # deltas of 0: the predictions are the anchors
        model.head.bbox_pred.weight.zero_()
        model.head.bbox_pred.bias.zero_()
    made = training_input()
    model([made])
    targets = seen["targets"]
    assert torch.equal(targets.boxes[0], made["instances"].gt_boxes.tensor)
    assert torch.equal(targets.masks[0], made["instances"].gt_masks.tensor)
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    levels = [torch.zeros(1, 1, *size) for size in sizes]
    anchors = torch.cat([boxes.tensor for boxes in model.anchor_generator(levels)])
    assert len(targets.predicted[0]) == len(targets.matched[0]) > 0
    for box in targets.predicted[0]:
        assert ((anchors - box).abs().amax(dim=1) < 1e-3).any()
    # The matcher takes only anchors with their center in the box.
    centers = Boxes(targets.predicted[0]).get_centers()
    x0y0, x1y1 = targets.boxes[0][targets.matched[0]].split(2, dim=1)
    assert ((x0y0 < centers) & (centers < x1y1)).all()
    assert targets.matched[0].unique().tolist() == [0, 1]


def with_batch_norm():
    """A backbone with statistics that a forward pass in training mode would change."""
    model = masked_config(trained_parts=["mask_head"])
    model.backbone.bottom_up = L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
        stages=L(ResNet.make_default_stages)(depth=18, norm="BN"),
        out_features=["res3", "res4", "res5"],
    )
    torch.manual_seed(0)
    return instantiate(model)


def test_the_mask_stage_changes_nothing_else():
    model = with_batch_norm().train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    # All parameters in the hands of the optimizer, with weight decay.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(2):
        losses = model([training_input(seed=seed), training_input(seed=9)])
        assert list(losses) == ["loss_mask"]
        optimizer.zero_grad()
        losses["loss_mask"].backward()
        optimizer.step()
    after = model.state_dict()
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    assert changed == {key for key in before if key.startswith("mask_head.")}
    kept = [p for name, p in model.named_parameters() if not name.startswith("mask_head.")]
    assert all(p.grad is None for p in kept)


def test_masks_can_be_learnt():
    """The upper half of each box: a few steps of the head alone."""
    model = masked(trained_parts=["mask_head"]).train()
    batch = [training_input(height=128, width=128, boxes=((8, 8, 72, 72), (40, 16, 120, 112)))]
    optimizer = torch.optim.AdamW(model.mask_head.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        losses.append(model(batch)["loss_mask"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_bf16(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (found,) = detect(model, question())
        losses = masked().train()([training_input()])
    assert len(found.pred_masks) == len(found)
    assert all(loss.isfinite() for loss in losses.values())


def test_a_batch_without_masks_is_refused():
    model = masked(trained_parts=["mask_head"]).train()
    with pytest.raises(ConfigError, match=r"image_0\.png has 2 boxes but no gt_masks.*use_masks"):
        model([tiny_input()])
    assert model([tiny_input(boxes=(), classes=())])["loss_mask"] == 0
