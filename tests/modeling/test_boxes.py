"""The legacy "+1" box convention, against the official formulas written out."""

import math

import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou

from glipv2_d2.modeling.boxes import InclusiveBoxCoder, to_continuous, to_inclusive

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
CLAMP = math.log(1000 / 16)


def official_encode(anchor, box):
    """maskrcnn-benchmark's BoxCoder.encode with TO_REMOVE = 1, for inclusive boxes."""
    deltas = []
    for axis in (0, 1):
        anchor_size = anchor[axis + 2] - anchor[axis] + 1
        box_size = box[axis + 2] - box[axis] + 1
        anchor_center = (anchor[axis] + anchor[axis + 2]) / 2
        box_center = (box[axis] + box[axis + 2]) / 2
        deltas.append((WEIGHTS[axis] * (box_center - anchor_center) / anchor_size, axis))
        deltas.append((WEIGHTS[axis + 2] * math.log(box_size / anchor_size), axis + 2))
    return [value for value, _ in sorted(deltas, key=lambda pair: pair[1])]


def official_decode(deltas, anchor):
    box = [0.0] * 4
    for axis in (0, 1):
        size = anchor[axis + 2] - anchor[axis] + 1
        center = (anchor[axis] + anchor[axis + 2]) / 2
        center = deltas[axis] / WEIGHTS[axis] * size + center
        size = math.exp(min(deltas[axis + 2] / WEIGHTS[axis + 2], CLAMP)) * size
        box[axis] = center - (size - 1) / 2
        box[axis + 2] = center + (size - 1) / 2
    return box


def random_boxes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * 300
    return torch.cat((start, start + 5 + torch.rand(count, 2, generator=generator) * 200), dim=1)


def test_conversion_moves_the_far_corner_only():
    continuous = torch.tensor([[0.0, 0.0, 10.0, 20.0], [3.5, 2.0, 4.0, 9.0]])
    inclusive = to_inclusive(continuous)
    assert inclusive.tolist() == [[0, 0, 9, 19], [3.5, 2, 3, 8]]
    assert torch.equal(to_continuous(inclusive), continuous)
    assert to_inclusive(torch.zeros(0, 4)).shape == (0, 4)


def test_encode_by_hand():
    """Anchor of 8 x 8 pixels, box of 16 x 4 whose center lies 4 to the right and 2 above."""
    deltas = InclusiveBoxCoder().encode(
        torch.tensor([[0.0, 0.0, 7.0, 7.0]]), torch.tensor([[0.0, 0.0, 15.0, 3.0]])
    )
    expected = [10 * 4 / 8, 10 * -2 / 8, 5 * math.log(2), 5 * math.log(0.5)]
    torch.testing.assert_close(deltas, torch.tensor([expected]))


def test_coding_equals_the_official_formulas():
    anchors, boxes = random_boxes(20, 0), random_boxes(20, 1)
    coder = InclusiveBoxCoder()
    deltas = coder.encode(anchors, boxes)
    expected = [official_encode(a, b) for a, b in zip(anchors.tolist(), boxes.tolist())]
    # Differences of coordinates of some hundred pixels, in float32.
    torch.testing.assert_close(deltas, torch.tensor(expected), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(coder.decode(deltas, anchors), boxes, atol=1e-3, rtol=0)
    noise = 3 * torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    expected = [official_decode(d, a) for d, a in zip(noise.tolist(), anchors.tolist())]
    torch.testing.assert_close(
        coder.decode(noise, anchors), torch.tensor(expected), atol=1e-3, rtol=1e-5
    )


def test_decoding_caps_the_size():
    anchor = [0.0, 0.0, 15.0, 15.0]
    for delta in (5 * CLAMP, 1000.0):
        box = InclusiveBoxCoder().decode(
            torch.tensor([[0, 0, delta, delta]]), torch.tensor([anchor])
        )
        width = (box[0, 2] - box[0, 0] + 1).item()
        assert width == pytest.approx(1000, rel=1e-5)  # 16 pixels times 1000 / 16


def test_plain_iou_of_continuous_boxes_is_the_official_plus_one_iou():
    first, second = random_boxes(6, 3), random_boxes(5, 4)
    actual = pairwise_iou(Boxes(to_continuous(first)), Boxes(to_continuous(second)))
    for i, a in enumerate(first.tolist()):
        for j, b in enumerate(second.tolist()):
            width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
            height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
            areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
            expected = width * height / (sum(areas) - width * height)
            assert actual[i, j].item() == pytest.approx(expected, abs=1e-5)
