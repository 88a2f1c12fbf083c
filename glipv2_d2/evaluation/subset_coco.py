"""COCO detection AP averaged over some of the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from pycocotools.cocoeval import COCOeval

from glipv2_d2.evaluation.collect import ImageLedger, checked_instances, gathered
from glipv2_d2.evaluation.tables import Table, metric_tables

# metric: (IoU threshold or None for their mean, label of the area range)
_METRICS = {
    "AP": (None, "all"),
    "AP50": (0.5, "all"),
    "AP75": (0.75, "all"),
    "APs": (None, "small"),
    "APm": (None, "medium"),
    "APl": (None, "large"),
}


def has_fast_coco_eval() -> bool:
    """Whether Detectron2's compiled COCO evaluation is there."""
    return getattr(coco_evaluation, "COCOeval_opt", COCOeval) is not COCOeval


class SubsetCOCOEvaluator(COCOEvaluator):
    """Stock ``COCOEvaluator`` for all classes or a subset, which refuses what would falsify it.

    The stock evaluator takes an image that was never evaluated for one without detections, and
    counts one twice that came twice; here each image of the data set must come exactly once. The
    result and its files do not depend on batches, order and processes.

    AP, AP50, ... are means over ``classes``. All classes may be predicted, and each class is
    matched as the stock evaluator matches it; only the final mean leaves classes out. With all
    classes the numbers are the stock ones, except that a model without a single detection gets 0
    instead of NaN.

    Args:
        dataset_name: a registered data set with ``thing_classes``.
        classes: names of the classes to average over; default: ``evaluated_classes`` of the
            metadata, or all classes where there is no such entry.
        use_fast_impl: Detectron2's compiled evaluation; default: where it is there.
        kwargs: as for ``COCOEvaluator``.

    Raises:
        ValueError: no classes, or one that the data set does not have.
        DataError (later): an image that is unknown, missing or came twice; NaN in a prediction.
    """

    def __init__(
        self,
        dataset_name: str,
        *args,
        classes: Sequence[str] | None = None,
        use_fast_impl: bool | None = None,
        **kwargs,
    ):
        metadata = MetadataCatalog.get(dataset_name)
        known = list(metadata.get("thing_classes") or [])
        if classes is None:
            classes = metadata.get("evaluated_classes", known)
        unknown = [name for name in classes if name not in known]
        if unknown or not classes:
            problem = f"does not have the classes {unknown}" if unknown else "has no classes"
            raise ValueError(
                f"data set {dataset_name!r} {problem}: `classes` must name some of its "
                f"thing_classes {known}"
            )
        self.classes = list(classes)
        if use_fast_impl is None:
            use_fast_impl = has_fast_coco_eval()
        super().__init__(dataset_name, *args, use_fast_impl=use_fast_impl, **kwargs)
        self._ledger = ImageLedger(sorted(self._coco_api.getImgIds()), dataset_name)

    def reset(self) -> None:
        """Begin a new evaluation."""
        super().reset()
        self._ledger.reset()

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """As ``COCOEvaluator.process``, after a look at the image ids and the numbers."""
        for model_input, output in zip(inputs, outputs, strict=True):
            image_id = self._ledger.add(model_input)
            if "instances" in output:
                output = {**output, "instances": checked_instances(output, image_id)}
            super().process([model_input], [output])

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """
        Args:
            img_ids: mean over these images only; all must have been evaluated nevertheless.

        Returns:
            ``{"bbox": {"AP", "AP50", ..., "AP-<class>"}, "segm": ... for a model with masks}`` in
            percent in the main process, {} in the others.
        """
        self._ledger.close(self._distributed)
        self.tables: list[Table] = []
        parts = gathered(self._predictions, self._distributed)
        if parts is None:
            return {}
        rank = {image_id: index for index, image_id in enumerate(self._ledger.image_ids)}
        everyone = [_copied(prediction) for part in parts for prediction in part]
        everyone.sort(key=lambda prediction: rank[prediction["image_id"]])
        mine, distributed = self._predictions, self._distributed
        try:
            self._predictions, self._distributed = everyone, False  # the rest needs no others
            return super().evaluate(img_ids)
        finally:
            self._predictions, self._distributed = mine, distributed

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if iou_type not in ("bbox", "segm"):
            return super()._derive_coco_results(coco_eval, iou_type, class_names)
        if coco_eval is None:
            self._logger.warning("No detection in the whole data set: AP is 0.")
            results = dict.fromkeys(_METRICS, 0.0)
        else:
            results = super()._derive_coco_results(coco_eval, iou_type, class_names)
            chosen = [class_names.index(name) for name in self.classes]
            results.update(subset_metrics(coco_eval, chosen))
            for name in set(class_names) - set(self.classes):
                results.pop(f"AP-{name}", None)
        title = f"{iou_type} over {len(self.classes)} of the {len(class_names)} classes"
        mine = metric_tables(title, results)
        self.tables += mine
        self._logger.info("%s", mine[0])  # the stock code prints the single classes
        return results


def _copied(prediction: dict[str, Any]) -> dict[str, Any]:
    """The stock code overwrites the class ids, which would spoil a second ``evaluate``."""
    if "instances" not in prediction:
        return prediction
    return {**prediction, "instances": [dict(result) for result in prediction["instances"]]}


def subset_metrics(coco_eval: COCOeval, class_indices: Sequence[int]) -> dict[str, float]:
    """COCO's summary numbers over some classes.

    Args:
        coco_eval: after ``accumulate()``.
        class_indices: positions in ``coco_eval.params.catIds`` (sorted category ids).

    Returns:
        AP, AP50, AP75, APs, APm, APl in percent; NaN where no class has ground truth.
    """
    params = coco_eval.params
    # (IoU thresholds, recalls, classes, area ranges, maximal detections); -1: no ground truth
    precision = coco_eval.eval["precision"][..., -1][:, :, list(class_indices)]
    results = {}
    for metric, (threshold, area) in _METRICS.items():
        values = precision[..., params.areaRngLbl.index(area)]
        if threshold is not None:
            values = values[np.isclose(params.iouThrs, threshold)]
        values = values[values > -1]
        results[metric] = float(values.mean() * 100) if values.size else float("nan")
    return results
