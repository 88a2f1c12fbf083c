"""What COCO's evaluation matched at IoU 0.5: curves, thresholds, confusion, errors of an image."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["Curve", "ImageErrors", "Matches", "confusion_matrix", "match_detections"]

IOU = 0.5
Result = dict[str, Any]


class Curve(NamedTuple):
    """Precision over recall; position i is what detections with at least `scores[i]` give."""

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray

    def best(self) -> tuple[float, float, float]:
        """(score, precision, recall) where F1 is largest; NaN without a right detection."""
        both = self.precision + self.recall
        if not np.any(both):
            return (float("nan"),) * 3
        f1 = 2 * self.precision * self.recall / np.maximum(both, 1e-12)
        at = int(f1.argmax())
        return float(self.scores[at]), float(self.precision[at]), float(self.recall[at])


class ImageErrors(NamedTuple):
    """Of an image, at a score threshold: detections that are right or wrong, objects not found."""

    right: int
    wrong: int
    missed: int

    @property
    def share(self) -> float:
        """Wrong and missed ones among all; 0 for an image where nothing is and nothing is found."""
        return (self.wrong + self.missed) / max(sum(self), 1)


class Matches(NamedTuple):
    """Detections, each with what became of it; those of crowd regions are left out.

    Attributes:
        images, categories: (N,) ids.
        scores: (N,).
        hits: (N,) bool, whether an object of the detection's class was matched.
        of_category, of_image: how many objects there are, by id.
    """

    images: np.ndarray
    categories: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    of_category: Counter
    of_image: Counter

    def curve(self, category: int | None = None) -> Curve:
        """Of one class, or of all detections together."""
        chosen = slice(None) if category is None else self.categories == category
        scores, hits = self.scores[chosen], self.hits[chosen]
        total = self.of_category.total() if category is None else self.of_category[category]
        order = np.argsort(-scores, kind="stable")
        right = np.cumsum(hits[order])
        precision = right / np.arange(1, len(order) + 1)
        return Curve(right / max(total, 1), precision, scores[order])

    def errors(self, image_ids: Sequence[Any], threshold: float) -> list[ImageErrors]:
        """The errors of each image.

        Args:
            image_ids: of the ground truth.
            threshold: detections with a lower score do not count.
        """
        errors = []
        for image in image_ids:
            hits = self.hits[(self.images == image) & (self.scores >= threshold)]
            right = int(hits.sum())
            errors.append(ImageErrors(right, len(hits) - right, self.of_image[image] - right))
        return errors


def match_detections(truth: COCO, results: Sequence[Result]) -> Matches:
    """Match detections with objects of their class.

    Args:
        truth: of `load_coco_truth`.
        results: `coco_instances_results.json` of an evaluation; boxes are compared.
    """
    rows: list[tuple] = []
    of_category: Counter = Counter()
    of_image: Counter = Counter()
    for entry in _evaluated(truth, results, by_class=True):
        image, category = entry["image_id"], entry["category_id"]
        objects = int((np.asarray(entry["gtIgnore"]) == 0).sum())
        of_category[category] += objects
        of_image[image] += objects
        for match, ignored, score in zip(
            entry["dtMatches"][0], entry["dtIgnore"][0], entry["dtScores"]
        ):
            if not ignored:
                rows.append((image, category, score, match > 0))
    images, categories, scores, hits = zip(*rows) if rows else ((), (), (), ())
    return Matches(
        np.array(images), np.array(categories), np.array(scores, float), np.array(hits, bool),
        of_category, of_image,
    )  # fmt: skip


def confusion_matrix(truth: COCO, results: Sequence[Result], threshold: float) -> np.ndarray:
    """Count which class was found for objects of which class, whatever the class of the match.

    Args:
        truth, results: see `match_detections`.
        threshold: detections with a lower score do not count.

    Returns:
        (K + 1, K + 1) in the order of the category ids: a row for each true class, a column for
        each found one. The last column has objects that were not found, the last row detections
        where nothing is.
    """
    position = {category: i for i, category in enumerate(sorted(truth.getCatIds()))}
    results = [result for result in results if result["score"] >= threshold]
    classes = [position[result["category_id"]] for result in results]  # ids of results: 1, 2, ...
    nothing = len(position)
    matrix = np.zeros((nothing + 1, nothing + 1), int)
    for entry in _evaluated(truth, results, by_class=False):
        found = set()
        for number, match, ignored in zip(
            entry["dtIds"], entry["dtMatches"][0], entry["dtIgnore"][0]
        ):
            if match > 0 and not ignored:
                found.add(int(match))
                true = position[truth.anns[int(match)]["category_id"]]
                matrix[true, classes[number - 1]] += 1
            elif not ignored:
                matrix[nothing, classes[number - 1]] += 1
        for number, ignored in zip(entry["gtIds"], entry["gtIgnore"]):
            if not ignored and number not in found:
                matrix[position[truth.anns[number]["category_id"]], nothing] += 1
    return matrix


def _evaluated(truth: COCO, results: Sequence[Result], *, by_class: bool) -> list[dict[str, Any]]:
    """What pycocotools keeps of each image, and class, in which there is something."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, _detections(truth, results), "bbox")
        params = evaluation.params
        params.useCats = int(by_class)
        params.iouThrs = np.array([IOU])
        params.areaRng, params.areaRngLbl = [[0, 1e10]], ["all"]
        params.maxDets = [len(results) + 1]  # all: the evaluator has cut them already
        evaluation.evaluate()
    return [entry for entry in evaluation.evalImgs if entry is not None]


def _detections(truth: COCO, results: Sequence[Result]) -> COCO:
    if results:
        return truth.loadRes([dict(result) for result in results])
    none = COCO()  # `loadRes` looks at the first
    none.dataset = {**truth.dataset, "annotations": []}
    none.createIndex()
    return none
