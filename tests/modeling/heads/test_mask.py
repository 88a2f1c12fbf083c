"""The mask head against plain loops over regions, tokens and pixels."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from glipv2_d2.config import get_config
from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling.heads import LanguageMaskHead, MaskTargets, StackedHourglass
from glipv2_d2.modeling.heads import mask as mask_module
from glipv2_d2.modeling.heads.mask import bit_masks, crop_masks
from tests.support.tiny import tiny_input, tiny_masks_input, tiny_tasks_config

C, L, T = 8, 12, 5
HEIGHT, WIDTH = 64, 96


def head(seed=0, **options):
    torch.manual_seed(seed)
    pooler = ROIPooler(
        output_size=4,
        scales=[1 / 8, 1 / 16],
        sampling_ratio=2,
        pooler_type="ROIAlignV2",
        canonical_box_size=32,
        canonical_level=4,
    )
    hourglass = StackedHourglass(in_channels=C, channels=C)
    module = LanguageMaskHead(pooler=pooler, hourglass=hourglass, text_channels=L, **options)
    torch.nn.init.normal_(module.bias_lang)
    torch.nn.init.normal_(module.text_projection.bias)
    return module


def pyramid(images=2, seed=1):
    """Three levels, of which the pooler takes two; words with different lengths."""
    generator = torch.Generator().manual_seed(seed)
    levels = [
        torch.randn(images, C, HEIGHT // s, WIDTH // s, generator=generator) for s in (8, 16, 32)
    ]
    return levels, 3 * torch.randn(images, T, L, generator=generator)


BOXES = [
    torch.tensor([[4.0, 4, 20, 28], [0, 0, 96, 64]]),  # of P3, and of P4 with the image's border
    torch.tensor([[30.5, 10.25, 60, 40]]),
]
TOKENS = [
    torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0]]).bool(),
    torch.tensor([[0, 1, 0, 1, 1]]).bool(),
]


def targets(boxes=BOXES, tokens=TOKENS, predicted=None, matched=None):
    """The true mask of a box is its left half."""
    masks = []
    for own in boxes:
        masks.append(torch.zeros(len(own), HEIGHT, WIDTH, dtype=torch.bool))
        for mask, (x0, y0, x1, y1) in zip(masks[-1], own.round().long().tolist()):
            mask[y0:y1, x0 : (x0 + x1) // 2] = True
    none = [torch.zeros(0, 4) for _ in boxes]
    matched = [torch.zeros(0, dtype=torch.long) for _ in boxes] if matched is None else matched
    return MaskTargets(boxes, masks, tokens, none if predicted is None else predicted, matched)


def test_logits_are_the_mean_over_the_phrases_tokens():
    """As the official head has it: a logit for each token and pixel, then the phrase's mean."""
    module = head(log_scale=0.3)
    levels, words = pyramid()
    found = module.logits(levels, words, BOXES, TOKENS)
    assert found.shape == (3, 8, 8) and module.mask_size == 8
    features = module.pooler(levels[:2], [Boxes(b) for b in BOXES])
    features = F.relu(module.upsample(module.hourglass(features)))
    rows = [(0, 0), (0, 1), (1, 0)]
    for logits, x, (image, row) in zip(found, features, rows):
        for y, column in ((0, 0), (3, 5), (7, 7)):
            values = []
            for t in range(T):
                if TOKENS[image][row, t]:
                    e = words[image, t] / words[image, t].norm()
                    dot = x[:, y, column] @ module.text_projection(e / 2)
                    values.append(dot / math.exp(0.3) + e @ module.bias_lang)
            expected = sum(values) / len(values)
            # Float32 sums in another order, of some tens of terms.
            torch.testing.assert_close(logits[y, column], expected, atol=1e-4, rtol=1e-4)


def test_other_words_have_no_say():
    module = head()
    levels, words = pyramid()
    changed = words.clone()
    changed[0, 2] += 5
    changed[0, 4] = 0
    before, after = (module.logits(levels, w, BOXES, TOKENS) for w in (words, changed))
    assert torch.equal(before, after)


def test_the_loss_is_the_mean_cross_entropy_of_all_regions():
    module = head(weight=2.0)
    levels, words = pyramid()
    own = targets()
    logits = module.logits(levels, words, BOXES, TOKENS).double()
    total = 0.0
    for row, box, mask in zip(logits, torch.cat(BOXES), [m for image in own.masks for m in image]):
        gold = BitMasks(mask[None]).crop_and_resize(box[None], 8)[0]
        for value, inside in zip(row.flatten().tolist(), gold.flatten().tolist()):
            p = 1 / (1 + math.exp(-value))
            total -= math.log(p if inside else 1 - p) / 64
    assert module(levels, words, own).item() == pytest.approx(2 * total / 3, rel=1e-5)


def test_the_divisor_is_an_average_over_processes(monkeypatch):
    levels, words = pyramid()
    module = head()
    alone = module(levels, words, targets()).item()
    monkeypatch.setattr(mask_module, "mean_over_processes", lambda count: 2 * count)
    assert module(levels, words, targets()).item() == pytest.approx(alone / 2)


def test_one_region_in_two_processes(monkeypatch):
    """The average of both losses is that of one process with both images."""
    module = head()
    levels, words = pyramid()
    boxes, tokens = [BOXES[1], torch.zeros(0, 4)], [TOKENS[1], TOKENS[1][:0]]
    whole = module(levels, words, targets(boxes, tokens))
    monkeypatch.setattr(mask_module, "mean_over_processes", lambda count: torch.tensor(1 / 2))
    parts = [
        module([x[i : i + 1] for x in levels], words[i : i + 1], targets([boxes[i]], [tokens[i]]))
        for i in range(2)
    ]
    assert parts[1] == 0
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_a_mask_crosses_over_to_its_predictions():
    """Predictions are cut at the image's border; those off their box are not trained on."""
    module = head(regions_per_image=4)
    box = torch.tensor([[40.0, 8, 96, 56]])
    predicted = torch.tensor(
        [
            [44.0, 8, 120, 56],  # ends at 96: IoU 52 / 56
            [68.0, 8, 96, 56],  # half: exactly 0.5
            [69.0, 8, 96, 56],  # below
        ]
    )
    boxes, index = module._regions(
        box, torch.zeros(1, HEIGHT, WIDTH), None, predicted, torch.zeros(3, dtype=torch.long)
    )
    assert sorted(boxes.tolist()) == [[40, 8, 96, 56], [44, 8, 96, 56], [68, 8, 96, 56]]
    assert index.tolist() == [0, 0, 0]
    assert predicted[0, 2] == 120  # the model's own boxes are left alone


def test_predictions_that_are_not_finite_are_left_out():
    box = torch.tensor([[40.0, 8, 96, 56]])
    predicted = box.repeat(4, 1)
    predicted[0, 1], predicted[2, 2] = math.nan, math.inf
    predicted[3, 0] += 1
    boxes, index = head()._regions(
        torch.cat((box, box + 2)),
        torch.zeros(2, HEIGHT, WIDTH),
        None,
        predicted,
        torch.ones(4).long(),
    )
    assert sorted(boxes[2:].tolist()) == [[40, 8, 96, 56], [41, 8, 96, 56]]
    assert index[2:].tolist() == [1, 1]


def test_regions_are_bounded_and_true_boxes_come_first():
    boxes = torch.tensor([[0.0, 0, 32, 32], [40, 0, 72, 32], [0, 31, 32, 63]])
    matched = torch.arange(3).repeat(10)
    masks = torch.zeros(3, HEIGHT, WIDTH)
    for limit in (2, 3, 7):
        found, index = head(regions_per_image=limit)._regions(
            boxes, masks, None, boxes[matched] + 0.25, matched
        )
        assert len(found) == len(index) == limit
        true = min(limit, 3)
        assert torch.equal(found[:true], boxes[index[:true]])
        assert len(set(index[:true].tolist())) == true
        if limit > 3:  # what is not a true box is a prediction of that box
            assert torch.equal(found[3:], boxes[index[3:]] + 0.25)


def test_crops_equal_detectron2s():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, HEIGHT, WIDTH, generator=generator) > 0.5
    masks[1, :, :50] = True
    index = torch.tensor([1, 0, 1, 2, 1])
    boxes = torch.tensor(
        [[0, 0, 96, 64], [3.5, 2, 50, 60], [45, 10, 96, 20], [95, 63, 96, 64], [4, 4, 4, 9]]
    ).float()
    expected = BitMasks(masks[index]).crop_and_resize(boxes, 6)
    assert torch.equal(crop_masks(masks, index, boxes, 6), expected.float())


def test_no_boxes_at_all():
    module = head()
    levels, words = pyramid()
    nothing = targets([torch.zeros(0, 4)] * 2, [torch.zeros(0, T, dtype=torch.bool)] * 2)
    loss = module(levels, words, nothing)
    assert loss == 0
    loss.backward()
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())


def test_gradients_reach_words_and_levels():
    """As fine-tuning of the entire network needs (Appendix D.2)."""
    module = head()
    levels, words = pyramid()
    for tensor in (*levels, words):
        tensor.requires_grad_()
    module(levels, words, targets()).backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters())
    assert levels[0].grad.abs().sum() > 0 and levels[1].grad.abs().sum() > 0
    # The padding of the first caption, which no phrase holds, has none.
    assert words.grad[0, 3].abs().sum() > 0 and words.grad[0, 4].abs().sum() == 0


def test_predictions_in_parts():
    module = head(regions_at_once=1).eval()
    levels, words = pyramid(images=3)
    boxes = [BOXES[0], torch.zeros(0, 4), BOXES[1]]
    tokens = [TOKENS[0], torch.zeros(0, T, dtype=torch.bool), TOKENS[1]]
    with torch.no_grad():
        found = module.refine(levels, words, boxes, tokens)
        together = module.logits(levels, words, boxes, tokens).sigmoid().split([2, 0, 1])
    assert [m.shape for m in found] == [(2, 8, 8), (0, 8, 8), (1, 8, 8)]
    for a, b in zip(found, together):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)  # batches of another size


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_bf16_is_finite_and_boxes_keep_their_digits(scale):
    module = head()
    levels, words = pyramid()
    seen = {}
    module.pooler.register_forward_pre_hook(lambda _, args: seen.update(boxes=args[1]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = [scale * level.bfloat16() for level in levels]
        loss = module(rounded, words.bfloat16(), targets())
    assert loss.isfinite() and loss.dtype == torch.float32
    assert all(boxes.tensor.dtype == torch.float32 for boxes in seen["boxes"])
    loss.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def training_input(**fields):
    instances = Instances((HEIGHT, WIDTH))
    for name, value in fields.items():
        instances.set(name, value)
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    return {"file_name": "a.png", "image": image, "instances": instances}


def test_masks_of_a_batch():
    cpu = torch.device("cpu")
    masks = torch.rand(2, HEIGHT, WIDTH) > 0.5
    given = bit_masks(training_input(gt_masks=BitMasks(masks)), cpu)
    assert torch.equal(given, masks)
    empty = bit_masks(training_input(gt_boxes=Boxes(torch.zeros(0, 4))), cpu)
    assert empty.shape == (0, HEIGHT, WIDTH)
    empty = bit_masks(training_input(gt_masks=BitMasks(torch.zeros(0, 0, 0))), cpu)
    assert empty.shape == (0, HEIGHT, WIDTH)
    with pytest.raises(ConfigError, match=r"a\.png has 1 boxes but no gt_masks.*use_masks=True"):
        bit_masks(training_input(gt_boxes=Boxes(torch.zeros(1, 4))), cpu)
    polygons = PolygonMasks([[torch.tensor([1.0, 1, 9, 1, 9, 9]).numpy()]])
    with pytest.raises(ConfigError, match="gt_masks are PolygonMasks"):
        bit_masks(training_input(gt_masks=polygons), cpu)
    for size in ((HEIGHT, WIDTH - 1), (WIDTH, HEIGHT)):
        given = BitMasks(torch.ones(1, *size, dtype=torch.bool))
        message = rf"a\.png is 64 x 96 .*gt_masks are {size[0]} x {size[1]}: .*transforms"
        with pytest.raises(ConfigError, match=message):
            bit_masks(training_input(gt_masks=given), cpu)


@pytest.mark.parametrize("option", ["regions_per_image", "regions_at_once"])
def test_bad_options(option):
    with pytest.raises(ValueError, match="must be at least 1"):
        head(**{option: 0})


@pytest.mark.parametrize("name", ["glipv2_t", "glipv2_b", "glipv2_h"])
def test_the_mask_stage_starts_near_the_loss_of_a_guess(name):
    """ln 2 = 0.69 for masks of one half; in fp16, with a scale as its gradient scaler finds it."""
    torch.manual_seed(0)
    started = instantiate(get_config(f"mask/{name}_mask.py").model.mask_head)
    levels = [torch.randn(1, 256, 128 // stride, 128 // stride) for stride in (8, 16, 32)]
    words = torch.randn(1, 4, len(started.bias_lang))
    boxes = torch.tensor([[8.0, 8, 72, 72], [20, 30, 50, 50]])
    masks = torch.zeros(2, 128, 128, dtype=torch.bool)
    masks[:, :40] = True
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    targets = MaskTargets(*([x] for x in (boxes, masks, torch.eye(4).bool()[:2], *none)))
    with torch.autocast("cpu", dtype=torch.float16):
        loss = started(levels, words, targets)
    assert loss < 2
    (loss * 2**10).backward()
    assert all(p.grad.isfinite().all() for p in started.parameters())
    assert sum(p.grad.square().sum() for p in started.parameters()).sqrt() < 10 * 2**10


@pytest.mark.parametrize("kind", ["question", "caption"])
def test_the_boxes_of_a_text_may_come_without_masks(kind):
    """The loss of masks is that of the other image, and the boxes are learned from."""
    torch.manual_seed(0)
    model = instantiate(tiny_tasks_config(contrast=None)).train()
    masked, grounded = tiny_masks_input(), tiny_input(seed=1)
    grounded["prompt"] = Prompt.from_caption("a kite", [[(2, 6)]], kind=kind)
    grounded["answers"] = {"red": 1.0}
    grounded["instances"].gt_classes[:] = 0
    both, alone = model([masked, grounded]), model([masked])
    torch.testing.assert_close(both["loss_mask"], alone["loss_mask"], atol=1e-5, rtol=0)
    assert alone["loss_mask"] > 0
    moved = copy.deepcopy(grounded)
    moved["instances"].gt_boxes.tensor[:, 2:] -= 8
    assert model([masked, moved])["loss_box"] != both["loss_box"]
    assert model([grounded])["loss_mask"] == 0
    detection = tiny_input(seed=1)
    with pytest.raises(ConfigError, match="image_1.png has 2 boxes but no gt_masks"):
        model([masked, detection])
