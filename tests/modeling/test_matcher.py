"""ATSS against a plain double loop over levels and boxes."""

import math
import statistics

import pytest
import torch

from glipv2_d2.modeling.matcher import ATSSMatcher, _smallest


def anchor_levels(height, width, strides=(8, 16, 32, 64, 128), scale=8):
    """The official anchors, inclusive: one square per position, `scale` strides wide."""
    levels = []
    for stride in strides:
        rows = torch.arange(-(-height // stride)) * stride + (stride - 1) / 2
        columns = torch.arange(-(-width // stride)) * stride + (stride - 1) / 2
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        half = (scale * stride - 1) / 2
        levels.append(torch.stack((x - half, y - half, x + half, y + half), dim=-1).reshape(-1, 4))
    return levels


def iou_plus_one(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def naive_atss(levels, boxes, top_k=9):
    anchors = [a for level in levels for a in level.tolist()]
    best = [(-1.0, -1)] * len(anchors)  # (IoU, box) of each anchor
    for index, box in enumerate(boxes.tolist()):
        candidates, start = [], 0
        for level in levels:
            rows = range(start, start + len(level))
            nearest = sorted(rows, key=lambda i: math.dist(center(anchors[i]), center(box)))
            candidates += nearest[:top_k]
            start += len(level)
        overlaps = [iou_plus_one(anchors[i], box) for i in candidates]
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for i, overlap in zip(candidates, overlaps):
            x, y = center(anchors[i])
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap >= threshold and inside and overlap > best[i][0]:
                best[i] = (overlap, index)
    return torch.tensor([box for _, box in best])


def random_boxes(count, height, width, seed, share=0.6):
    """Off the anchors' grid, so that no two distances or overlaps are equal.

    `share`: of the image's sides, the largest box.
    """
    generator = torch.Generator().manual_seed(seed)
    size = 6 + torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) * share
    start = torch.rand(count, 2, generator=generator) * (torch.tensor([width, height]) - size)
    return torch.cat((start, start + size), dim=1)


@pytest.mark.parametrize("scale", [4, 8])  # the demo's anchors and the official ones
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_double_loop(seed, scale):
    height, width = 150, 200
    levels = anchor_levels(height, width, scale=scale)
    boxes = random_boxes(6, height, width, seed)
    expected = naive_atss(levels, boxes)
    assert torch.equal(ATSSMatcher()(levels, boxes), expected)
    assert (expected >= 0).sum() >= 6


@pytest.mark.parametrize("scale, share", [(2, 0.2), (3, 0.3)])
def test_equals_the_double_loop_with_few_pixels_and_candidates(scale, share):
    """Here the +1 and the unbiased deviation decide some of the anchors."""
    levels = anchor_levels(96, 128, strides=(8, 16), scale=scale)
    boxes = random_boxes(60, 96, 128, seed=0, share=share)
    expected = naive_atss(levels, boxes)
    assert torch.equal(ATSSMatcher()(levels, boxes), expected)
    assert (expected >= 0).sum() >= 60


def test_fewer_anchors_than_top_k_and_other_top_k():
    levels = anchor_levels(40, 40)  # 25, 9, 4, 1 and 1 anchors
    boxes = random_boxes(3, 40, 40, seed=0)
    for top_k in (9, 3):
        assert torch.equal(
            ATSSMatcher(top_k=top_k)(levels, boxes), naive_atss(levels, boxes, top_k)
        )


def test_far_from_the_origin():
    """Distances keep their digits: products of coordinates would not, in float32."""
    levels = anchor_levels(150, 200)
    boxes = random_boxes(6, 150, 200, seed=0)
    # A power of two, so that the shifted coordinates lose almost nothing themselves.
    shifted = [level + 8192 for level in levels], boxes + 8192
    assert torch.equal(ATSSMatcher()(*shifted), naive_atss(*shifted))


def test_no_boxes():
    levels = anchor_levels(40, 60)
    matches = ATSSMatcher()(levels, torch.zeros(0, 4))
    assert matches.dtype == torch.int64
    assert matches.tolist() == [-1] * sum(map(len, levels))


def test_anchor_claimed_twice_goes_to_the_larger_iou():
    levels = anchor_levels(64, 64, strides=(8, 16))
    # The first overlaps the anchors of 64 pixels in the middle less than the second does.
    wide, exact = [2.0, 12.0, 61.0, 51.0], [0.0, 0.0, 63.0, 63.0]
    boxes = torch.tensor([wide, exact])
    alone = [ATSSMatcher()(levels, b[None]) >= 0 for b in boxes]
    both = ATSSMatcher()(levels, boxes)
    contested = alone[0] & alone[1]
    assert contested.any()
    anchors = torch.cat(levels).tolist()
    for i in contested.nonzero().flatten().tolist():
        overlaps = [iou_plus_one(anchors[i], wide), iou_plus_one(anchors[i], exact)]
        assert both[i] == overlaps.index(max(overlaps))
    assert torch.equal(both >= 0, alone[0] | alone[1])
    reversed_order = ATSSMatcher()(levels, boxes.flip(0))
    assert torch.equal(reversed_order[both >= 0], 1 - both[both >= 0])


def test_identical_boxes_share_their_anchors():
    levels = anchor_levels(100, 100)
    box = random_boxes(1, 100, 100, seed=3)
    single = ATSSMatcher()(levels, box)
    double = ATSSMatcher()(levels, box.repeat(2, 1))
    assert torch.equal(double >= 0, single >= 0)


def test_equal_distances():
    """Four anchors are nearest to the box; five of the next eight complete the nine."""
    levels = anchor_levels(96, 96, strides=(8,), scale=2)
    box = torch.tensor([[40.0, 40.0, 55.0, 55.0]])  # 16 x 16 pixels around (47.5, 47.5)
    matches = ATSSMatcher()(levels, box)
    distances = {i: math.dist(center(a), (47.5, 47.5)) for i, a in enumerate(levels[0].tolist())}
    nearest = sorted(distances, key=distances.get)
    assert distances[nearest[3]] < distances[nearest[4]] == distances[nearest[11]]
    assert matches[nearest[:4]].tolist() == [0] * 4
    assert not (set((matches >= 0).nonzero().flatten().tolist()) - set(nearest[:12]))


def test_centers_on_the_edge_are_outside():
    levels = [torch.tensor([[-4.0, -4, 4, 4], [-3.0, -3, 5, 5]])]  # centers (0, 0) and (1, 1)
    box = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    matches = ATSSMatcher()(levels, box)
    assert matches[0] == -1  # the center on the corner
    assert naive_atss(levels, box).tolist() == matches.tolist()


def test_of_equally_near_anchors_the_first_are_candidates():
    """Boxes whose centers lie between four anchors, and on one: the same on every device."""
    levels = anchor_levels(96, 128, strides=(8, 16), scale=3)
    corners = torch.tensor([[8.0, 8, 39, 39], [40, 24, 79, 63], [56, 40, 102, 86], [0, 0, 63, 63]])
    for boxes in (corners, corners + 3.5):
        expected = naive_atss(levels, boxes)
        assert torch.equal(ATSSMatcher()(levels, boxes), expected)
        assert (expected >= 0).sum() >= 6
    ties = torch.randint(0, 4, (5000, 3), generator=torch.Generator().manual_seed(0)) / 3
    smallest = ties.sort(dim=0, stable=True).indices
    for count in (1, 9, 2000):
        assert torch.equal(_smallest(ties, count), smallest[:count])
