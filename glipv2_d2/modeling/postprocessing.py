"""From region-word logits to detections, as the official GLIP does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from torchvision.ops import batched_nms, box_iou

from ..language.phrase_list import PhraseList
from ..language.positive_map import ClassMap
from ..language.prompt import Prompt
from ..language.words import NEGATIVE
from .boxes import InclusiveBoxCoder, to_continuous

__all__ = ["Asked", "Detections", "GroundingPostprocessor", "deferred_classes"]

# Boxes of several pairs that are compared in one call: a GPU has the least to launch, up to where
# `batched_nms` goes through the classes; a CPU the least to compare.
NMS_BOXES = {"cuda": 25_000}


class Detections(NamedTuple):
    """n detections of one image.

    Attributes:
        boxes: (n, 4), inclusive, pixels. scores, classes: (n,), the latter class ids.
        prompt_index: (n,) int64, which of the image's prompts found each.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    prompt_index: torch.Tensor

    def select(self, rows: torch.Tensor | slice) -> Detections:
        """The detections `rows` (indices, a mask or a slice)."""
        if isinstance(rows, torch.Tensor) and rows.dtype == torch.bool:
            rows = rows.nonzero().flatten()  # waits for a GPU once, not for each part
        return Detections(*(part[rows] for part in self))


class Asked(NamedTuple):
    """What one row of the head's output is to be read as.

    Attributes:
        class_map: of its prompt.
        image_size: (height, width) of the network's input without padding; boxes are clipped to it.
        prompt_index: of the prompt among the image's own.
        deferred: ids of classes whose candidates are left for the NMS of `merge`, see
            `deferred_classes`.
    """

    class_map: ClassMap
    image_size: tuple[int, int]
    prompt_index: int = 0
    deferred: Collection[int] = ()


class _Candidates(NamedTuple):
    """n boxes of several pairs of an image and a prompt, before NMS.

    Attributes:
        boxes, scores, classes: as of `Detections`. pair: (n,), ascending.
        column: (n,), of the class among those of all pairs.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    classes: torch.Tensor
    pair: torch.Tensor
    column: torch.Tensor


class GroundingPostprocessor:
    """Thresholding, per-level top-k, decoding and class-aware NMS.

    The final score is sqrt(class score * sigmoid(centerness)); the threshold applies to the class
    score alone, before centerness.

    Args:
        score_threshold: on the class score.
        topk_candidates: (anchor, class) pairs kept per level.
        nms_threshold: IoU above which a lower-scored box of the same class is removed.
        detections_per_prompt: kept per image and prompt (chunk of a vocabulary); all that tie with
            the last one are kept, too.
        detections_per_image: most that `merge` leaves of all prompts together; None: all.
    """

    def __init__(
        self,
        *,
        box_coder: InclusiveBoxCoder,
        score_threshold: float = 0.05,
        topk_candidates: int = 1000,
        nms_threshold: float = 0.6,
        detections_per_prompt: int = 100,
        detections_per_image: int | None = None,
    ):
        self.box_coder = box_coder
        self.score_threshold = score_threshold
        self.topk_candidates = topk_candidates
        self.nms_threshold = nms_threshold
        self.detections_per_prompt = detections_per_prompt
        self.detections_per_image = detections_per_image

    def detect(
        self,
        logits: torch.Tensor,
        deltas: torch.Tensor,
        centerness: torch.Tensor,
        anchors: Sequence[torch.Tensor],
        asked: Sequence[Asked],
    ) -> list[Detections]:
        """Detections of P pairs of an image and a prompt, best first.

        Args:
            logits, deltas, centerness: (P, N, T), (P, N, 4) and (P, N), of the positions of all
                levels.
            anchors: of each level (n, 4).
            asked: of each pair.
        """
        found = self._candidates(logits, deltas, centerness, anchors, asked)
        deferred = _is_deferred(found, asked)
        own, others = (~deferred).nonzero().flatten(), deferred.nonzero().flatten()
        best = self._best(found, self._nms(found, own, len(asked)), len(asked))
        rows = torch.cat((best, others))
        rows = rows[found.pair[rows].argsort(stable=True)]
        prompt_index = torch.tensor([pair.prompt_index for pair in asked], device=rows.device)
        pair = found.pair[rows]
        detections = Detections(
            found.boxes[rows], found.scores[rows], found.classes[rows], prompt_index[pair]
        )
        counts = pair.bincount(minlength=len(asked)).tolist()
        return [Detections(*fields) for fields in zip(*(x.split(counts) for x in detections))]

    def merge(self, chunks: Sequence[Detections], deferred: Collection[int] = ()) -> Detections:
        """Detections of one image for all its prompts, best first.

        Of a class that several prompts asked for (`deferred`, as given to `detect`) the phrases of
        all prompts go through one NMS: at each place the best of them counts. Then a box is left
        out where a negative (`NEGATIVE`) of any prompt scores better in a box that overlaps it by
        more than the NMS's threshold; and so are the negatives.
        """
        candidates, negatives = _split(_concatenate(chunks), {NEGATIVE} & set(deferred))
        own, others = _split(candidates, deferred)
        kept = self._keep(others.boxes, others.scores, others.classes)
        merged = _concatenate([own, others.select(kept)])
        if NEGATIVE in deferred:
            merged = merged.select(~self._beaten(merged, negatives))
        best = merged.scores.argsort(descending=True, stable=True)
        return merged.select(best[: self.detections_per_image])

    def to_instances(
        self, detections: Detections, prompts: Sequence[Prompt], image_size: tuple[int, int]
    ) -> Instances:
        """Detectron2's Instances with continuous boxes; `pred_phrases` names each class."""
        instances = Instances(
            image_size,
            pred_boxes=Boxes(to_continuous(detections.boxes)),
            scores=detections.scores,
            pred_classes=detections.classes,
        )
        if not torch.jit.is_tracing():  # Detectron2's TracingAdapter takes tensors only
            asked = [pair for p in prompts for pair in zip(p.class_ids, p.names)]
            names = dict(reversed(asked))  # of two names of a class the first
            instances.pred_phrases = PhraseList(names[i] for i in detections.classes.tolist())
        return instances

    def _candidates(self, logits, deltas, centerness, anchors, asked) -> _Candidates:
        positions = logits.shape[1]
        parts, columns = [], 0
        for row, pair in enumerate(asked):
            class_scores = pair.class_map.scores(logits[row])
            position, column = (class_scores > self.score_threshold).nonzero(as_tuple=True)
            scores = class_scores[position, column]
            classes = pair.class_map.class_ids[column]
            parts.append((position + row * positions, column + columns, scores, classes))
            columns += class_scores.shape[1]
        # All pairs and levels at once: on a GPU every small step costs the launch of a kernel.
        place, column, scores, classes = (torch.cat(x) for x in zip(*parts))
        scores = scores * centerness.flatten()[place].sigmoid()
        kept = self._best_of_levels(place, scores, [len(x) for x in anchors] * len(asked))
        if kept is not None:
            place, column, scores, classes = (x[kept] for x in (place, column, scores, classes))
        boxes = self.box_coder.decode(
            deltas.flatten(0, 1)[place], torch.cat(list(anchors))[place % positions]
        )
        pair = place // positions
        limits = boxes.new_tensor([[w - 1, h - 1, w - 1, h - 1] for _, (h, w), *_ in asked])
        boxes = torch.minimum(boxes.clamp(min=0), limits[pair])
        return _Candidates(boxes, scores.sqrt(), classes, pair, column)

    def _best_of_levels(
        self, place: torch.Tensor, scores: torch.Tensor, lengths: Sequence[int]
    ) -> torch.Tensor | None:
        """Indices of the `topk_candidates` best candidates of each level; None: there are no more.

        Args:
            place, scores: (n,), the former ascending. lengths: of the levels, of all pairs.
        """
        if len(scores) <= self.topk_candidates:
            return None
        ends = torch.tensor(lengths, device=place.device).cumsum(0)
        counts = torch.searchsorted(place, ends).diff(prepend=ends.new_zeros(1)).tolist()
        if max(counts) <= self.topk_candidates:
            return None
        kept, start = [], 0
        for count, of_level in zip(counts, scores.split(counts)):
            kept.append(start + of_level.topk(min(self.topk_candidates, count)).indices)
            start += count
        return torch.cat(kept)

    def _nms(self, found: _Candidates, rows: torch.Tensor, pairs: int) -> torch.Tensor:
        """Those of `rows`, ascending, that no better one of their pair and class overlaps, best
        first."""
        of_pairs = rows.split(found.pair[rows].bincount(minlength=pairs).tolist())
        groups = _joined(of_pairs, NMS_BOXES.get(rows.device.type, 0))
        kept = [g[self._keep(found.boxes[g], found.scores[g], found.column[g])] for g in groups]
        return torch.cat(kept)

    def _keep(self, boxes: torch.Tensor, scores: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        # float64: torchvision separates kinds by shifting their boxes far apart, which costs
        # float32 the digits that decide an IoU near the threshold.
        boxes = to_continuous(boxes.double())
        return batched_nms(boxes, scores.double(), kinds, self.nms_threshold)

    def _beaten(self, found: Detections, negatives: Detections) -> torch.Tensor:
        """(n,) bool, those of `found` that a negative describes better."""
        boxes, others = (to_continuous(x.boxes.double()) for x in (found, negatives))
        better = negatives.scores > found.scores[:, None]
        return (better & (box_iou(boxes, others) > self.nms_threshold)).any(dim=1)

    def _best(self, found: _Candidates, rows: torch.Tensor, pairs: int) -> torch.Tensor:
        """Of `rows` the `detections_per_prompt` best of each pair and their ties, best first."""
        rows = rows[found.scores[rows].argsort(descending=True, stable=True)]
        rows = rows[found.pair[rows].argsort(stable=True)]
        pair, scores = found.pair[rows], found.scores[rows]
        counts = pair.bincount(minlength=pairs)
        last = counts.cumsum(0) - (counts - self.detections_per_prompt).clamp(min=0) - 1
        return rows[scores >= scores[last[pair]]]


def deferred_classes(prompts: Sequence[Prompt]) -> frozenset[int]:
    """Ids of the classes that more than one of an image's prompts asks for, and `NEGATIVE` where a
    prompt has negatives: these bear on what all prompts find, and take no place among the best of
    one."""
    asked = Counter(i for prompt in prompts for i in set(prompt.class_ids))
    return frozenset(i for i, count in asked.items() if count > 1 or i == NEGATIVE)


def _split(detections: Detections, classes: Collection[int]) -> tuple[Detections, Detections]:
    """The detections of all other classes, and those of `classes`."""
    if not classes:
        return detections, detections.select(slice(0))
    wanted = torch.tensor(sorted(classes), device=detections.classes.device)
    inside = torch.isin(detections.classes, wanted)
    return detections.select(~inside), detections.select(inside)


def _concatenate(parts: Sequence[Detections]) -> Detections:
    return Detections(*(torch.cat(field) for field in zip(*parts)))


def _is_deferred(found: _Candidates, asked: Sequence[Asked]) -> torch.Tensor:
    """(n,) bool, the candidates that are left for the NMS of `merge`."""
    deferred = torch.zeros_like(found.pair, dtype=torch.bool)
    for row, pair in enumerate(asked):
        if pair.deferred:
            classes = torch.tensor(sorted(pair.deferred), device=deferred.device)
            deferred |= (found.pair == row) & torch.isin(found.classes, classes)
    return deferred


def _joined(parts: Sequence[torch.Tensor], most: int) -> list[torch.Tensor]:
    """Neighbors together, up to so many numbers."""
    groups: list[list[torch.Tensor]] = []
    for part in parts:
        if groups and sum(map(len, groups[-1])) + len(part) <= most:
            groups[-1].append(part)
        else:
            groups.append([part])
    return [torch.cat(group) for group in groups]
