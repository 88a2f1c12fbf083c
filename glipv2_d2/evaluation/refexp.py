"""RefCOCO, RefCOCO+ and RefCOCOg: one caption, one object."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou, generalized_box_iou

from ..errors import DataError
from .build import EVALUATORS
from .collect import Results
from .record_evaluator import Record, RecordEvaluator, true_box

RANKS = (1, 5, 10)


@EVALUATORS.register()
class RefExpEvaluator(RecordEvaluator):
    """Computes precision at 1, 5 and 10: is one of the k best boxes the object (IoU >= 0.5)?

    All boxes of a caption are ranked by score, whatever part of the caption they belong to; a
    caption without a box is a miss.

    The literature thresholds the plain IoU (MAttNet, UNITER, mmdetection's `RefExpMetric`); that
    is the default. MDETR's script, and the copy of it in GLIP's repository, threshold the
    generalized IoU, which is never higher: `generalized_iou=True`. The result says which.

    Args:
        dataset_name: a registered data set whose records have exactly one annotation.
        output_dir, distributed: see `RecordEvaluator`.
        generalized_iou: follow MDETR's script.

    Raises:
        DataError: a caption without an object or with several.

    Returns (`evaluate`):
        `{"refexp": {"P@1", "P@5", "P@10"}}` in percent; the group is `refexp_giou` with the
        generalized IoU.
    """

    boxes_only = True  # masks need not be computed

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        generalized_iou: bool = False,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        self.generalized_iou = generalized_iou
        targets = [_target(record, dataset_name) for record in self.records]
        self._targets = torch.tensor(targets, dtype=torch.float64).reshape(-1, 1, 4)

    def score_records(self, predictions: list[dict[str, np.ndarray]]) -> Results:
        """Compute the precision over the captions; see the class."""
        overlap = generalized_box_iou if self.generalized_iou else box_iou
        hits = np.zeros((len(predictions), len(RANKS)))
        for row, prediction, target in zip(hits, predictions, self._targets):
            found = overlap(torch.from_numpy(prediction["boxes"]), target)[:, 0] >= 0.5
            row[:] = [bool(found[:k].any()) for k in RANKS]
        results = {f"P@{k}": float(value) for k, value in zip(RANKS, 100 * hits.mean(axis=0))}
        group = "refexp_giou" if self.generalized_iou else "refexp"
        self.log_metrics(f"{group}, {len(predictions)} captions of {self.dataset_name}", results)
        return {group: results}


def _target(record: Record, dataset_name: str) -> list[float]:
    annotations = record.get("annotations", [])
    if len(annotations) != 1:
        raise DataError(
            f"data set {dataset_name!r}: image {record['image_id']!r} has {len(annotations)} boxes "
            "for its caption; a referring expression names exactly one object"
        )
    return true_box(annotations[0])
