"""Adaptive Training Sample Selection (Zhang et al. 2020), with the official GLIP's boxes."""

from typing import NamedTuple

import torch
from detectron2.structures import Boxes, pairwise_iou

from .boxes import to_continuous

__all__ = ["ATSSMatcher", "GroundingTargets"]


class GroundingTargets(NamedTuple):
    """Ground truth of B images.

    Attributes:
        boxes: per image (G, 4), inclusive, pixels.
        tokens: per image (G, T) bool, the words each box belongs to.
        mask: (B, T) bool, True for real tokens of images whose boxes are known.
        regressed: (B,) bool, the images whose boxes are exact enough to be regressed.
    """

    boxes: list[torch.Tensor]
    tokens: list[torch.Tensor]
    mask: torch.Tensor
    regressed: torch.Tensor


class ATSSMatcher:
    """Assigns ground-truth boxes to anchors.

    Candidates of a box are, per level, the `top_k` anchors whose centers are nearest to its own (of
    equally near ones the first).
    Those whose IoU reaches the candidates' mean plus (unbiased) standard deviation and whose center
    lies inside the box are its positives. An anchor claimed twice goes to the box of larger IoU.
    """

    def __init__(self, top_k: int = 9, min_inside: float = 0.01):
        self.top_k = top_k
        self.min_inside = min_inside

    @torch.no_grad()
    def __call__(self, anchors: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """Index of the box of each anchor, -1 for none.

        Args:
            anchors: per level (n, 4), inclusive, pixels. boxes: (G, 4), inclusive, pixels.

        Returns:
            (N,) int64 for the N anchors of all levels.
        """
        if len(boxes) == 0:
            return boxes.new_full((sum(map(len, anchors)),), -1, dtype=torch.long)
        best_iou, best_box = self.claims(anchors, boxes).max(dim=1)
        return torch.where(best_iou >= 0, best_box, -1)

    @torch.no_grad()
    def claims(self, anchors: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        """The positives of each box, whatever the other boxes claim.

        Args:
            anchors, boxes: see `__call__`; a box at least.

        Returns:
            (N, G), the IoU of a box and its positive; -1 elsewhere.
        """
        all_anchors = torch.cat(anchors)
        iou = pairwise_iou(Boxes(to_continuous(all_anchors)), Boxes(to_continuous(boxes)))  # (N, G)
        candidates = self._nearest_per_level(anchors, boxes)  # (candidates, G)
        candidate_iou = iou.gather(0, candidates)
        threshold = candidate_iou.mean(dim=0) + candidate_iou.std(dim=0)
        centers = _centers(all_anchors)[candidates]  # (candidates, G, 2)
        margins = torch.cat((centers - boxes[:, :2], boxes[:, 2:] - centers), dim=-1)
        inside = margins.amin(dim=-1) > self.min_inside
        positive = (candidate_iou >= threshold) & inside
        claimed = torch.full_like(iou, -1.0)
        return claimed.scatter_(0, candidates, torch.where(positive, candidate_iou, -1.0))

    def _nearest_per_level(self, anchors: list[torch.Tensor], boxes: torch.Tensor) -> torch.Tensor:
        chosen, start = [], 0
        for level in anchors:
            # Not by a matrix product: far from 0, or in TF32, it loses the digits that decide.
            distance = torch.cdist(
                _centers(level), _centers(boxes), compute_mode="donot_use_mm_for_euclid_dist"
            )
            chosen.append(_smallest(distance, min(self.top_k, len(level))) + start)
            start += len(level)
        return torch.cat(chosen)


def _smallest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Indices (count, G) of the smallest of (n, G), at least 0; of equal ones the first.

    On a grid many anchors are equally far from a box, and which of them `topk` takes is another
    matter on each device: with it a model trained on CUDA has other positives than on CPU.
    """
    # The bits of a float that is not negative are ordered as it is; the index settles the rest.
    index = torch.arange(len(values), device=values.device)
    key = (values.float().view(torch.int32).long() << 32) + index[:, None]
    return key.topk(count, dim=0, largest=False).indices


def _centers(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2
