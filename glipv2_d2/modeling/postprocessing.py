"""From region-word logits to detections, as the official GLIP does it."""

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

__all__ = ["Detections", "GroundingPostprocessor", "deferred_classes"]


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

    def select(self, rows: torch.Tensor | slice) -> "Detections":
        """The detections `rows` (indices, a mask or a slice)."""
        return Detections(*(part[rows] for part in self))


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
        class_map: ClassMap,
        image_size: tuple[int, int],
        prompt_index: int = 0,
        deferred: Collection[int] = (),
    ) -> Detections:
        """Detections of one image for one prompt.

        Args:
            logits, deltas, centerness: (N, T), (N, 4) and (N,), of the positions of all levels.
            anchors: of each level (n, 4).
            image_size: (height, width) of the network's input without padding; boxes are clipped to
                it.
            prompt_index: of the prompt among the image's own.
            deferred: ids of classes whose candidates are left for the NMS of `merge`, see
                `deferred_classes`.
        """
        boxes, scores, classes = self._candidates(logits, deltas, centerness, anchors, class_map)
        found = Detections(
            _clip(boxes, image_size), scores, classes, torch.full_like(classes, prompt_index)
        )
        own, others = _split(found, deferred)
        return _concatenate([self._best(self._nms(own)), others])

    def merge(self, chunks: Sequence[Detections], deferred: Collection[int] = ()) -> Detections:
        """Detections of one image for all its prompts, best first.

        Of a class that several prompts asked for (`deferred`, as given to `detect`) the phrases of
        all prompts go through one NMS: at each place the best of them counts. Then a box is left
        out where a negative (`NEGATIVE`) of any prompt scores better in a box that overlaps it by
        more than the NMS's threshold; and so are the negatives.
        """
        candidates, negatives = _split(_concatenate(chunks), {NEGATIVE} & set(deferred))
        own, others = _split(candidates, deferred)
        merged = _concatenate([own, self._nms(others)])
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

    def _candidates(self, logits, deltas, centerness, anchors, class_map: ClassMap):
        class_scores = class_map.scores(logits)
        # All levels at once: on a GPU every small step costs the launch of a kernel.
        position, column = (class_scores > self.score_threshold).nonzero(as_tuple=True)
        scores = class_scores[position, column] * centerness.sigmoid()[position]
        kept = self._best_of_levels(position, scores, [len(level) for level in anchors])
        if kept is not None:
            position, column, scores = position[kept], column[kept], scores[kept]
        boxes = self.box_coder.decode(deltas[position], torch.cat(list(anchors))[position])
        return boxes, scores.sqrt(), class_map.class_ids[column]

    def _best_of_levels(
        self, position: torch.Tensor, scores: torch.Tensor, lengths: Sequence[int]
    ) -> torch.Tensor | None:
        """Indices of the `topk_candidates` best candidates of each level; None: there are no more.

        Args:
            position, scores: (n,), the positions ascending. lengths: of the levels.
        """
        if len(scores) <= self.topk_candidates:
            return None
        ends = torch.tensor(lengths, device=position.device).cumsum(0)
        counts = torch.searchsorted(position, ends).diff(prepend=ends.new_zeros(1)).tolist()
        kept, start = [], 0
        for count, of_level in zip(counts, scores.split(counts)):
            kept.append(start + of_level.topk(min(self.topk_candidates, count)).indices)
            start += count
        return torch.cat(kept)

    def _nms(self, detections: Detections) -> Detections:
        # float64: torchvision separates classes by shifting their boxes far apart, which costs
        # float32 the digits that decide an IoU near the threshold.
        boxes = to_continuous(detections.boxes.double())
        keep = batched_nms(
            boxes, detections.scores.double(), detections.classes, self.nms_threshold
        )
        return detections.select(keep)

    def _beaten(self, found: Detections, negatives: Detections) -> torch.Tensor:
        """(n,) bool, those of `found` that a negative describes better."""
        boxes, others = (to_continuous(x.boxes.double()) for x in (found, negatives))
        better = negatives.scores > found.scores[:, None]
        return (better & (box_iou(boxes, others) > self.nms_threshold)).any(dim=1)

    def _best(self, detections: Detections) -> Detections:
        limit = self.detections_per_prompt
        if len(detections.scores) <= limit:
            return detections
        return detections.select(detections.scores >= detections.scores[limit - 1])


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


def _clip(boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    height, width = image_size
    limit = boxes.new_tensor([width - 1, height - 1, width - 1, height - 1])
    return torch.minimum(boxes.clamp(min=0), limit)
