"""Dynamic convolution blocks: offset rules, scale attention, DyReLU, the tower without language."""

import copy
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import deform_conv2d

from glipv2_d2.modeling.fusion import DyHead, DynamicConv
from glipv2_d2.modeling.fusion.dyhead import DynamicReLU, offsets_for_coarser
from glipv2_d2.modeling.text import TextFeatures

CHANNELS = 16
ODD_SIZES = ((7, 9), (4, 5), (2, 3), (1, 2), (1, 1))


def randomized(module, std=0.3):
    """All parameters random: many start at 0, and a zero offset hides every mistake about it."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def pyramid(sizes=ODD_SIZES, batch=2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, CHANNELS, h, w, generator=generator) for h, w in sizes]


def text_features(channels=8):
    torch.manual_seed(2)
    hidden, embedded = torch.randn(2, 2, 4, channels)
    return TextFeatures(hidden, embedded, torch.ones(2, 4, dtype=torch.bool))


def test_raw_memory_rule_by_hand():
    """Two kinds of 2 x 3 values read as 1 x 2: the first four values of each sample's memory."""
    fine = torch.arange(24.0).view(2, 2, 2, 3)
    expected = [[[[0, 1]], [[2, 3]]], [[[12, 13]], [[14, 15]]]]
    assert offsets_for_coarser(fine, (1, 2), "raw_memory").tolist() == expected


def test_raw_memory_rule_reads_logical_order_of_a_strided_tensor():
    fine = torch.arange(24.0).view(2, 2, 2, 3)
    strided = fine.to(memory_format=torch.channels_last)
    assert torch.equal(
        offsets_for_coarser(strided, (1, 2), "raw_memory"),
        offsets_for_coarser(fine, (1, 2), "raw_memory"),
    )
    part = torch.cat((fine, fine + 100), dim=1)[:, :2]  # as `split` leaves offsets and masks
    assert torch.equal(
        offsets_for_coarser(part, (1, 2), "raw_memory"),
        offsets_for_coarser(fine, (1, 2), "raw_memory"),
    )


@pytest.mark.parametrize("fine_size, size", [((5, 7), (3, 4)), ((8, 11), (4, 6)), ((1, 1), (1, 1))])
@pytest.mark.parametrize("channels", [slice(0, 18), slice(18, 27)], ids=["offsets", "masks"])
def test_raw_memory_rule_is_what_the_unchecked_kernel_reads(channels, fine_size, size):
    """The index arithmetic of the CUDA kernel, with the output's height and width.

    It gets the address of each sample. Offsets and masks are parts of one convolution's output: a
    sample's values lie together in memory, those of two samples do not.
    """
    both = torch.randn(2, 27, *fine_size, generator=torch.Generator().manual_seed(0))
    fine, (height, width) = both[:, channels], size
    actual = offsets_for_coarser(fine, size, "raw_memory")
    kinds = fine.shape[1]
    assert actual.shape == (2, kinds, height, width)
    memory = [sample.flatten().tolist() for sample in fine]
    for sample, kind, i, j in product(range(2), range(kinds), range(height), range(width)):
        pointer = (kind * height + i) * width + j
        assert actual[sample, kind, i, j] == memory[sample][pointer]


def test_resized_rule_interpolates():
    fine = torch.tensor([[[[0.0, 2.0, 10.0, 20.0], [4.0, 6.0, 30.0, 40.0]]]])
    assert offsets_for_coarser(fine, (1, 2), "resized").tolist() == [[[[3.0, 25.0]]]]


@pytest.mark.parametrize(
    "build", [DynamicConv, lambda *a: DyHead(num_blocks=1, channels=a[0], offset_rule=a[1])]
)
def test_unknown_rule(build):
    with pytest.raises(ValueError, match="'cropped'.*resized.*raw_memory"):
        build(CHANNELS, "cropped")


def test_dynamic_relu_by_formula():
    relu = randomized(DynamicReLU(CHANNELS), std=1.0)
    x = torch.randn(2, CHANNELS, 3, 4)
    out = relu(x)
    for b in range(2):
        pooled = x[b].mean(dim=(1, 2))
        hidden = (relu.fc1.weight @ pooled + relu.fc1.bias).clamp(min=0)
        theta = ((relu.fc2.weight @ hidden + relu.fc2.bias + 3).clamp(0, 6) / 6).tolist()
        a1, b1, a2, b2 = (theta[i * CHANNELS : (i + 1) * CHANNELS] for i in range(4))
        for c in range(CHANNELS):
            first = x[b, c] * (2 * (a1[c] - 0.5) + 1) + (b1[c] - 0.5)
            second = x[b, c] * (2 * (a2[c] - 0.5)) + (b2[c] - 0.5)
            torch.testing.assert_close(out[b, c], torch.maximum(first, second))


def reference_block(block, features):
    """The official block, written from its description with torchvision's operator."""

    def branch(conv, x, offset, mask, stride=1):
        out = deform_conv2d(x, offset, conv.weight, conv.bias, stride, 1, mask=mask)
        return F.group_norm(out, 16, conv.norm.weight, conv.norm.bias, 1e-5)

    merged = []
    for level, x in enumerate(features):
        height, width = x.shape[-2:]
        raw = F.conv2d(x, block.offset.weight, block.offset.bias, padding=1)
        offset, mask = raw[:, :18], raw[:, 18:].sigmoid()
        branches = [branch(block.conv_mid, x, offset, mask)]
        if level > 0:
            branches.append(branch(block.conv_low, features[level - 1], offset, mask, stride=2))
        if level < len(features) - 1:
            coarser = features[level + 1]
            h, w = coarser.shape[-2:]
            if block.offset_rule == "raw_memory":
                small = [
                    t.contiguous().view(len(t), -1)[:, : k * h * w].reshape(-1, k, h, w)
                    for t, k in ((offset, 18), (mask, 9))
                ]
            else:
                small = [F.interpolate(t, (h, w), mode="bilinear") for t in (offset, mask)]
            high = branch(block.conv_high, coarser, *small)
            branches.append(
                F.interpolate(high, (height, width), mode="bilinear", align_corners=True)
            )
        weights = []
        for b in branches:
            pooled = F.adaptive_avg_pool2d(b, 1)
            scale = F.conv2d(pooled, block.scale_attention.weight, block.scale_attention.bias)
            weights.append(F.relu6(scale.clamp(min=0) + 3) / 6)
        merged.append(torch.stack([b * w for b, w in zip(branches, weights)]).mean(dim=0))
    return [block.relu(m) for m in merged]


@pytest.mark.parametrize("rule", ["raw_memory", "resized"])
def test_block_equals_the_description_on_odd_sizes(rule):
    block, features = randomized(DynamicConv(CHANNELS, rule)), pyramid()
    actual = block(features)
    assert [tuple(a.shape[-2:]) for a in actual] == list(ODD_SIZES)
    # GroupNorm of 1 x 1 maps divides by the spread of a single channel's worth of values.
    torch.testing.assert_close(actual, reference_block(block, features), atol=1e-4, rtol=1e-4)


def test_new_block_starts_as_a_plain_convolution():
    """No offsets, every tap at half weight: twice the kernel changes nothing but the scale."""
    block, features = DynamicConv(CHANNELS), pyramid()
    conv = block.conv_mid
    plain = F.conv2d(features[0], conv.weight / 2, conv.bias, padding=1)
    offset, mask = block.offset(features[0]).split((18, 9), dim=1)
    assert not offset.any() and (mask.sigmoid() == 0.5).all()
    torch.testing.assert_close(conv(features[0], offset, mask.sigmoid()), conv.norm(plain))


def test_single_level():
    block, features = randomized(DynamicConv(CHANNELS)), pyramid(((4, 5),))
    torch.testing.assert_close(
        block(features), reference_block(block, features), atol=1e-4, rtol=1e-4
    )


def test_tower_leaves_text_alone_and_returns_embedded():
    tower = randomized(DyHead(num_blocks=2, channels=CHANNELS))
    features, text = pyramid(), text_features()
    before = copy.deepcopy(text)
    out, words = tower(features, text)
    assert words is text.embedded
    assert torch.equal(text.hidden, before.hidden) and torch.equal(text.embedded, before.embedded)
    expected = tower.blocks[1](tower.blocks[0](features))
    assert all(torch.equal(a, b) for a, b in zip(out, expected))


def test_tower_with_checkpointing_gives_the_same_gradients():
    features, text = pyramid(), text_features()
    towers = [
        randomized(DyHead(num_blocks=2, channels=CHANNELS, use_checkpoint=c)) for c in (False, True)
    ]
    results = []
    for tower in towers:
        out, _ = tower.train()(features, text)
        loss = sum(level.square().sum() for level in out)
        results.append(torch.autograd.grad(loss, list(tower.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*results))
