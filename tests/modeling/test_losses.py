"""Grounding losses against plain loops; several processes against one."""

import json
import math

import pytest
import torch
from detectron2.utils import comm
from fvcore.nn import sigmoid_focal_loss

from glipv2_d2 import compat
from glipv2_d2.modeling import blocks
from glipv2_d2.modeling.boxes import InclusiveBoxCoder
from glipv2_d2.modeling.heads import GroundingOutput
from glipv2_d2.modeling.losses import GroundingLosses, GroundingTargets, centerness_of
from glipv2_d2.modeling.matcher import ATSSMatcher
from tests.support.tiny import tiny_input, tiny_model

STRIDES, SIZES = (8, 16, 32), ((6, 8), (3, 4), (2, 2))
TOKENS = 5


def anchors():
    levels = []
    for stride, (height, width) in zip(STRIDES, SIZES):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers = torch.stack((x, y), dim=-1).reshape(-1, 2) * stride + (stride - 1) / 2
        half = (4 * stride - 1) / 2
        levels.append(torch.cat((centers - half, centers + half), dim=1))
    return levels


def make_losses(**options):
    return GroundingLosses(matcher=ATSSMatcher(), box_coder=InclusiveBoxCoder(), **options)


def case(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = sum(h * w for h, w in SIZES)

    def normal(*shape):
        return torch.randn(shape, generator=generator).requires_grad_()

    output = GroundingOutput(
        normal(batch, count, TOKENS), normal(batch, count, 4), normal(batch, count), list(SIZES)
    )
    boxes = [torch.tensor([[3.0, 5.0, 30.0, 33.0], [20.0, 8.0, 61.0, 40.0]])]
    boxes += [torch.tensor([[10.0, 2.0, 50.0, 44.0]])] * (batch - 1)
    tokens = [torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 1, 0]]).bool()]
    tokens += [torch.tensor([[0, 1, 0, 0, 0]]).bool()] * (batch - 1)
    mask = torch.ones(batch, TOKENS, dtype=torch.bool)
    mask[1:, 3:] = False
    return output, GroundingTargets(boxes, tokens, mask, torch.ones(batch, dtype=torch.bool))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def focal(logit, target):
    p = sigmoid(logit)
    if target:
        return -0.25 * (1 - p) ** 2 * math.log(p)
    return -0.75 * p**2 * math.log(1 - p)


def giou(a, b):
    """1 - GIoU of boxes whose widths are x2 - x1, without the +1."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return 1 - (width * height / union - (hull - union) / hull)


def naive_centerness(anchor, box):
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    left, right, top, bottom = x - box[0], box[2] - x, y - box[1], box[3] - y
    return math.sqrt(min(left, right) / max(left, right) * (min(top, bottom) / max(top, bottom)))


def naive_losses(output, targets):
    """The three sums and normalizers as the official loss evaluator forms them."""
    all_anchors = [a for level in anchors() for a in level.tolist()]
    token_sum = box_sum = centerness_sum = weight_sum = 0.0
    positives = 0
    for b, boxes in enumerate(targets.boxes):
        matches = ATSSMatcher()(anchors(), boxes).tolist()
        decoded = InclusiveBoxCoder().decode(output.deltas[b], torch.cat(anchors())).tolist()
        for n, match in enumerate(matches):
            for t in range(TOKENS):
                if targets.mask[b, t]:
                    target = match >= 0 and targets.tokens[b][match, t].item()
                    token_sum += focal(output.logits[b, n, t].item(), target)
            if match >= 0:
                box = boxes[match].tolist()
                weight = naive_centerness(all_anchors[n], box)
                p = sigmoid(output.centerness[b, n].item())
                positives += 1
                weight_sum += weight
                box_sum += weight * giou(decoded[n], box)
                centerness_sum -= weight * math.log(p) + (1 - weight) * math.log(1 - p)
    return {
        "loss_token": token_sum / positives,
        "loss_box": 2 * box_sum / weight_sum,
        "loss_centerness": centerness_sum / positives,
    }


def test_equal_the_plain_loop():
    output, targets = case()
    losses = make_losses()(output, anchors(), targets)
    for name, expected in naive_losses(output, targets).items():
        # Float32 sums of some hundred terms.
        assert losses[name].item() == pytest.approx(expected, rel=1e-5), name
        assert losses[name].shape == ()


def test_padded_tokens_and_their_gradients_do_not_count():
    output, targets = case()
    losses = make_losses()(output, anchors(), targets)
    (gradient,) = torch.autograd.grad(losses["loss_token"], output.logits)
    assert not gradient[1, :, 3:].any()
    assert gradient[0].ne(0).all() and gradient[1, :, :3].ne(0).all()


def test_targets_narrower_than_the_batch():
    """A prompt's map may end at its own last token."""
    output, targets = case()
    expected = make_losses()(output, anchors(), targets)
    narrow = targets._replace(tokens=[targets.tokens[0], targets.tokens[1][:, :3]])
    assert make_losses()(output, anchors(), narrow) == expected


def test_weights_multiply_their_terms():
    output, targets = case()
    plain = make_losses(box_weight=1.0)(output, anchors(), targets)
    weighted = make_losses(token_weight=3.0, box_weight=5.0, centerness_weight=7.0)
    weighted = weighted(output, anchors(), targets)
    for name, factor in (("loss_token", 3), ("loss_box", 5), ("loss_centerness", 7)):
        torch.testing.assert_close(weighted[name], factor * plain[name])


def test_centerness_by_hand():
    anchor = torch.tensor([[0.0, 0.0, 8.0, 8.0]])  # center (4, 4)
    box = torch.tensor([[2.0, 0.0, 12.0, 8.0]])  # 2 left, 8 right; 4 above, 4 below
    torch.testing.assert_close(centerness_of(anchor, box), torch.tensor([0.5]))
    assert centerness_of(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_token_loss_s_gradient_is_fvcore_s(dtype, monkeypatch):
    """That of the focal loss with its targets written down; in blocks that end within an image."""
    monkeypatch.setattr(blocks, "CPU_BLOCK_VALUES", 2 * TOKENS * 7)
    output, targets = case()
    losses = make_losses(alpha=0.3, gamma=1.5)
    matches = losses.match(anchors(), targets)
    logits = output.logits.detach().to(dtype).requires_grad_()
    gold = torch.zeros(logits.shape)
    for image, of_image in enumerate(matches):
        for position in (of_image >= 0).nonzero().flatten():
            gold[image, position] = targets.tokens[image][of_image[position]].float()
    assert gold.any()
    expected = sigmoid_focal_loss(logits.float(), gold, alpha=0.3, gamma=1.5)
    expected = (expected * targets.mask[:, None]).sum()
    found = losses._token_loss(logits, matches, targets)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    gradients = (torch.autograd.grad(2 * x, logits)[0] for x in (found, expected))
    # In bf16 the sum of two rounded gradients, at the positives.
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(*gradients, atol=tolerance, rtol=tolerance)


def test_image_without_boxes():
    output, targets = case()
    targets = targets._replace(
        boxes=[torch.zeros(0, 4)] * 2, tokens=[torch.zeros(0, TOKENS, dtype=torch.bool)] * 2
    )
    losses = make_losses()(output, anchors(), targets)
    assert losses["loss_box"] == 0 and losses["loss_centerness"] == 0
    # All background; the divisor is 1, not 0.
    expected = sum(
        focal(logit.item(), False)
        for row, mask in zip(output.logits, targets.mask)
        for logit in row[:, mask].reshape(-1)
    )
    assert losses["loss_token"].item() == pytest.approx(expected, rel=1e-5)
    gradients = torch.autograd.grad(sum(losses.values()), output[:3])
    assert gradients[0].any() and gradients[0].isfinite().all()
    assert not gradients[1].any() and not gradients[2].any()


def test_predicted_boxes_narrower_than_a_pixel():
    """Their inclusive form ends before it begins; the official loss takes it as empty."""
    output, targets = case()
    deltas = output.deltas.detach().clone()
    deltas[..., 2:] = -40.0  # exp(-40 / 5) of the anchor
    output = output._replace(deltas=deltas.requires_grad_())
    losses = make_losses()(output, anchors(), targets)
    expected = 0.0
    weights = 0.0
    for b, boxes in enumerate(targets.boxes):
        matches = ATSSMatcher()(anchors(), boxes).tolist()
        decoded = InclusiveBoxCoder().decode(deltas[b].detach(), torch.cat(anchors())).tolist()
        for anchor, match, (x1, y1, x2, y2) in zip(torch.cat(anchors()).tolist(), matches, decoded):
            if match >= 0:
                assert x2 < x1 and y2 < y1
                box = boxes[match].tolist()
                weight = naive_centerness(anchor, box)
                weights += weight
                expected += weight * giou((x1, y1, max(x1, x2), max(y1, y2)), box)
    assert losses["loss_box"].item() == pytest.approx(2 * expected / weights, rel=1e-5)
    assert torch.autograd.grad(losses["loss_box"], output.deltas)[0].isfinite().all()


def test_empty_image_beside_a_full_one_adds_only_background():
    output, targets = case()
    mixed = targets._replace(
        boxes=[targets.boxes[0], torch.zeros(0, 4)],
        tokens=[targets.tokens[0], torch.zeros(0, TOKENS, dtype=torch.bool)],
    )
    losses = make_losses()(output, anchors(), mixed)
    for name, expected in naive_losses(output, mixed).items():
        assert losses[name].item() == pytest.approx(expected, rel=1e-5), name


def test_boxes_that_are_not_regressed_train_the_words_alone():
    output, targets = case()
    inexact = targets._replace(regressed=torch.tensor([True, False]))
    losses = make_losses()(output, anchors(), inexact)
    whole, first = naive_losses(output, targets), naive_losses(*_first(output, targets))
    expected = {**first, "loss_token": whole["loss_token"]}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-5), name
    gradients = torch.autograd.grad(sum(losses.values()), output[:3])
    assert all(gradient[0].any() for gradient in gradients)
    assert gradients[0][1].any() and not gradients[1][1].any() and not gradients[2][1].any()


def _first(output, targets):
    """The first image alone."""
    return (
        GroundingOutput(*(x[:1] for x in output[:3]), output.level_sizes),
        GroundingTargets(*(x[:1] for x in targets)),
    )


def test_no_regression_reaches_the_losses():
    """By the key that the mapper gives; the other losses of the model are what they were."""
    model = tiny_model().train()
    inputs = [tiny_input(seed=0)]
    plain = model(inputs)
    words_alone = model([{**inputs[0], "regression": False}])
    assert plain["loss_box"] > 0 and words_alone["loss_token"] == plain["loss_token"]
    assert words_alone["loss_box"] == words_alone["loss_centerness"] == 0


def _batch():
    """Two images; the first has more boxes than the second, so their normalizers differ."""
    first = tiny_input(seed=0)
    second = tiny_input(seed=1, boxes=((20, 12, 70, 50),), classes=(1,))
    return [first, second]


def _report(losses, model):
    names = (
        "head.bias0",
        "neck.blocks.0.fusion.gamma_v",
        "backbone.bottom_up.patch_embed.proj.bias",
    )
    parameters = {n.removeprefix("module."): p for n, p in model.named_parameters()}
    return {
        "losses": {n: loss.item() for n, loss in losses.items()},
        "gradients": [parameters[n].grad.flatten().tolist() for n in names],
        "missing": [n for n, p in parameters.items() if p.grad is None],
    }


def _one_of_two(folder):
    """One training step of a process that sees one of the two images."""
    torch.set_num_threads(1)
    model = compat.create_ddp_model(tiny_model().train())
    losses = model([_batch()[comm.get_rank()]])
    sum(losses.values()).backward()
    reports = comm.all_gather(_report(losses, model))
    if comm.is_main_process():
        (folder / "report.json").write_text(json.dumps(reports))


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, quick_processes):
    """The gradients of two processes with one image each are those of one with both."""
    compat.launch(_one_of_two, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    reports = json.loads((tmp_path / "report.json").read_text())
    model = tiny_model().train()
    losses = model(_batch())
    sum(losses.values()).backward()
    expected = _report(losses, model)
    assert reports[0]["missing"] == reports[1]["missing"] == expected["missing"] == []
    for name, value in expected["losses"].items():
        parts = [r["losses"][name] for r in reports]
        assert sum(parts) / 2 == pytest.approx(value, rel=1e-4)
        assert parts[0] != pytest.approx(parts[1], rel=0.01)
    for report in reports:
        for actual, gradient in zip(report["gradients"], expected["gradients"]):
            # Relative to the tensor: single entries may cancel to almost nothing.
            scale = max(map(abs, gradient))
            assert actual == pytest.approx(gradient, rel=1e-3, abs=1e-3 * scale)
