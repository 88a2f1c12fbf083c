"""cgF1: boxes and masks of phrases that may be absent (SAM 3, Carion et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from detectron2.structures import Instances
from pycocotools import mask as mask_util

from ..errors import DataError, UsageError
from ..language.spans import phrase_key
from .build import EVALUATORS
from .coco_truth import compressed_rle
from .collect import Results
from .detection_table import encode_mask
from .record_evaluator import Record, RecordEvaluator, true_box
from .tables import Table

IOUS = np.linspace(0.5, 0.95, 10)
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # of the second table


class Pair(NamedTuple):
    """An image and a phrase: `scores` (n,) of what was found, `ious` (n, g) with what is there."""

    scores: np.ndarray
    ious: np.ndarray


class Prediction(NamedTuple):
    """Of one record the boxes found, and its pairs by "bbox" and, with masks, "segm"."""

    found: dict[str, np.ndarray]
    pairs: dict[str, list[Pair]]


@EVALUATORS.register()
class GatedF1Evaluator(RecordEvaluator):
    """Computes cgF1, for pairs of an image and a phrase that may not be in it.

    A detection counts from a confidence of 0.5 on; so it is an absolute number that is judged, not
    a ranking as in AP. Two questions:

    * is the phrase there (`IL_`, image level)? It is said to be where at least one detection
      counts. `IL_MCC` is the Matthews correlation of this with the truth, -1 to 1, 0 for a guess;
      `IL_precision`, `IL_recall`, `IL_FPR` (of the absent phrases those that are found) in percent;
    * where is it, if it is there? `pmF1`, positive micro F1: true positives, false positives and
      false negatives of the pairs whose phrase is there, summed, and F1 of the sums, averaged over
      the IoU thresholds 0.5, 0.55, ..., 0.95. Detections and objects of a pair are matched one to
      one with the largest sum of IoUs.

    cgF1 = pmF1 x IL_MCC. The rules are those of the authors' `CGF1Eval`, but that it adds 1e-4 to
    divisors; of several annotators of a pair (SA-Co/Gold has three) one is compared with. A crowd
    region is no object. A second table has the metrics for other confidences: to calibrate a model
    choose one there, on other data than those that are reported.

    Args:
        dataset_name: a registered data set of caption records with `phrases` (`"saco"`,
            `"absent_names"`): each phrase is a pair.
        output_dir, distributed: see `RecordEvaluator`.
        score_threshold: the confidence from which detections count.

    Raises:
        DataError: a record without `phrases`.
        UsageError: a threshold outside of [0, 1].

    Returns (`evaluate`):
        `{"cgf1_bbox": {"cgF1", "pmF1", "IL_MCC", ...}}`, and `"cgf1_segm"` where the model and the
        data have masks.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        score_threshold: float = 0.5,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        if not 0 <= score_threshold <= 1:
            raise UsageError(f"score_threshold must lie in [0, 1], got {score_threshold!r}")
        self.score_threshold = score_threshold
        for record in self.records:
            if not record.get("phrases"):
                raise DataError(
                    f"data set {dataset_name!r}: image {record['image_id']!r} does not say which "
                    "phrases are asked: read the file as format='absent_names' or 'saco'"
                )
        annotations = [a for record in self.records for a in _objects(record)]
        self._with_masks = all(a.get("segmentation") for a in annotations)

    def prediction_of(self, record: Record, instances: Instances) -> Prediction:
        """Compare what is found with what is there, phrase by phrase."""
        least = min(self.score_threshold, *THRESHOLDS)
        instances = instances[instances.scores >= least]
        found = super().prediction_of(record, instances)
        order = np.argsort(-instances.scores.float().numpy(), kind="stable")
        pairs: dict[str, list[Pair]] = {"bbox": []}
        if self._with_masks and instances.has("pred_masks"):
            pairs["segm"] = []
            masks = [encode_mask(instances.pred_masks[int(row)]) for row in order]
        for phrase, spans in enumerate(record["phrases"]):
            rows = np.flatnonzero(found["phrases"] == phrase)
            objects = [a for a in _objects(record) if _names(a, spans)]
            scores = found["scores"][rows]
            ious = _ious(_xywh(found["boxes"][rows]), _xywh(map(true_box, objects)))
            pairs["bbox"].append(Pair(scores, ious))
            if "segm" in pairs:
                ious = _ious([masks[row] for row in rows], [_rle(a, record) for a in objects])
                pairs["segm"].append(Pair(scores, ious))
        return Prediction(found, pairs)

    def as_row(self, prediction: Prediction) -> Record:
        """Return the boxes; see `RecordEvaluator`."""
        return super().as_row(prediction.found)

    def score_records(self, predictions: list[Prediction]) -> Results:
        """Compute the metrics of boxes and masks; see the class."""
        kinds = [k for k in ("bbox", "segm") if all(k in p.pairs for p in predictions)]
        results = {}
        for kind in kinds:
            pairs = [pair for prediction in predictions for pair in prediction.pairs[kind]]
            metrics = gated_f1(pairs, self.score_threshold)
            title = f"cgF1, {kind}, {len(pairs)} phrases of {self.dataset_name}"
            self.log_metrics(f"{title}, scores from {self.score_threshold:g} on", metrics)
            curve = [[t, *gated_f1(pairs, t).values()] for t in THRESHOLDS]
            self.tables.append(Table(f"{title}, over the threshold", ["from", *metrics], curve))
            results[f"cgf1_{kind}"] = metrics
        return results


def gated_f1(pairs: Sequence[Pair], threshold: float) -> dict[str, float]:
    """The metrics of `GatedF1Evaluator` where detections count from `threshold` on.

    What has no meaning (the recall where nothing is there, for instance) is 0.
    """
    from scipy.optimize import linear_sum_assignment  # takes a while to import

    there = np.zeros((2, 2), dtype=np.int64)  # [is there, is found]
    right = np.zeros(len(IOUS), dtype=np.int64)
    found = objects = 0  # of the pairs whose phrase is there
    for pair in pairs:
        ious = pair.ious[pair.scores >= threshold]
        n, g = ious.shape
        there[int(g > 0), int(n > 0)] += 1
        if g:
            matched = ious[linear_sum_assignment(ious, maximize=True)]
            right += (matched[:, None] >= IOUS).sum(axis=0)
            found, objects = found + n, objects + g
    (tn, fp), (fn, tp) = there.tolist()
    f1 = 2 * right / max(found + objects, 1)
    mcc = (tp * tn - fp * fn) / max(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)), 1) ** 0.5
    return {
        "cgF1": 100 * float(f1.mean()) * mcc,
        "pmF1": 100 * float(f1.mean()),
        "IL_MCC": mcc,
        "IL_precision": 100 * tp / max(tp + fp, 1),
        "IL_recall": 100 * tp / max(tp + fn, 1),
        "IL_FPR": 100 * fp / max(fp + tn, 1),
        "cgF1@0.5": 100 * float(f1[0]) * mcc,
        "cgF1@0.75": 100 * float(f1[5]) * mcc,
    }


def _objects(record: Record) -> list[Record]:
    return [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]


def _names(annotation: Record, spans: Sequence[Sequence[int]]) -> bool:
    """Whether an annotation belongs to the phrase with these spans."""
    return not set(phrase_key(spans)).isdisjoint(phrase_key(annotation["spans"]))


def _rle(annotation: Record, record: Record) -> dict:
    return compressed_rle(annotation["segmentation"], record["height"], record["width"])


def _xywh(boxes) -> np.ndarray:
    """Boxes x0, y0, x1, y1 as (n, 4) x, y, w, h."""
    corners = np.array(list(boxes), dtype=np.float64).reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _ious(found, objects) -> np.ndarray:
    """(n, g) of boxes, or of masks as RLE."""
    if not len(found) or not len(objects):
        return np.zeros((len(found), len(objects)))
    return mask_util.iou(found, objects, [0] * len(objects))
