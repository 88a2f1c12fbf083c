"""COCO: AP of detection and masks, averaged over all or some of the classes."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from pycocotools.cocoeval import COCOeval

from ..data.entries import plain_id
from ..language.class_names import class_labels
from .build import EVALUATORS
from .coco_truth import load_coco_truth, truth_of_records
from .collect import ImageLedger, checked_instances, log_results_file, write_submission
from .tables import Table, metric_tables

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


@EVALUATORS.register()
class SubsetCOCOEvaluator(COCOEvaluator):
    """Detectron2's `COCOEvaluator` for all classes or a subset, with checks of its input.

    Detectron2's evaluator takes an image that was never evaluated for one without detections, and
    counts one twice that came twice; here each image of the data set must come exactly once. The
    result and its files do not depend on batches, order and processes. The ground truth is what
    training reads of the same json, see `load_coco_truth`; masks are compared only if each of its
    objects has one.

    AP, AP50, ... are means over `classes`. All classes may be predicted, and each class is
    matched as the stock evaluator matches it; only the final mean leaves classes out. With all
    classes the numbers are the stock ones, except that a model without a single detection gets 0
    instead of NaN. Classes are told apart by their numbers: those with one name are scored each on
    its own, and reported as `AP-<class> (id <category id>)`.

    Args:
        dataset_name: a registered data set with `thing_classes`.
        classes: names of the classes to average over, each of all classes that have it; default:
            `evaluated_classes` of the metadata, or all classes where there is no such entry.
        use_fast_impl: Detectron2's compiled evaluation; default: where it is there.
        submission: name of the files for COCO's server, such as
            `"detections_test-dev2017_glip_results"`; see `write_submission`. None: there are none.
        kwargs: as for `COCOEvaluator`.

    A test set whose json has no annotations gives `{}`, and `coco_instances_results.json`.

    Raises:
        ValueError: no classes, or one that the data set does not have.
        DataError (later): an image that is unknown, missing or came twice; NaN in a prediction.
    """

    # Of Detectron2's evaluator.
    _distributed: bool
    _predictions: list[dict[str, Any]]

    def __init__(
        self,
        dataset_name: str,
        *args,
        classes: Sequence[str] | None = None,
        use_fast_impl: bool | None = None,
        submission: str | None = None,
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
        self.dataset_name = dataset_name
        self.submission = submission
        self.classes = list(classes)
        # Contiguous class ids, since names need not be unique.
        self.class_ids = [i for i, name in enumerate(known) if name in set(classes)]
        if use_fast_impl is None:
            use_fast_impl = has_fast_coco_eval()
        with _constructible(dataset_name) as name:
            super().__init__(name, *args, use_fast_impl=use_fast_impl, **kwargs)
        self._metadata = _with_plain_ids(metadata)
        if json_file := metadata.get("json_file"):
            other = metadata.get("format", "coco") != "coco"  # YOLO, Pascal VOC, ...
            self._coco_api = (
                truth_of_records(dataset_name) if other else load_coco_truth(os.fspath(json_file))
            )
            self._do_evaluation = "annotations" in self._coco_api.dataset
        self._ledger = ImageLedger(sorted(self._coco_api.getImgIds()), dataset_name)

    def reset(self) -> None:
        """Begin a new evaluation."""
        super().reset()
        self._ledger.reset()

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Check image ids, scores and boxes, then do as `COCOEvaluator.process`."""
        for model_input, output in zip(inputs, outputs, strict=True):
            # As load_coco_truth has it.
            plain = plain_id(model_input.get("image_id"))
            plain = str(plain) if str(plain) in self._coco_api.imgs else plain
            model_input = {**model_input, "image_id": plain}
            image_id = self._ledger.add(model_input)
            if "instances" in output:
                output = {**output, "instances": checked_instances(output, image_id)}
            super().process([model_input], [output])

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, dict[str, float]]:
        """Score the predictions of all processes.

        Args:
            img_ids: mean over these images only; all must have been evaluated nevertheless.

        Returns:
            `{"bbox": {"AP", "AP50", ..., "AP-<class>"}, "segm": ... for a model with masks}` in
            percent in the main process, {} in the others.
        """
        parts = self._ledger.gather(self._predictions, self._distributed)
        self.tables: list[Table] = []
        if parts is None:
            return {}
        rank = {image_id: index for index, image_id in enumerate(self._ledger.image_ids)}
        everyone = [_copied(prediction) for part in parts for prediction in part]
        everyone.sort(key=lambda prediction: rank[prediction["image_id"]])
        paths = self._submit(everyone)  # pycocotools would add fields to them
        alone = copy.copy(self)
        alone._predictions, alone._distributed = everyone, False
        results = super(SubsetCOCOEvaluator, alone).evaluate(img_ids)
        if not self._do_evaluation:
            log_results_file(self.dataset_name, paths, len(everyone))
        return results

    def _submit(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        """Write the files for the server, if they are asked for; the files that it takes."""
        folder = self._output_dir
        if not folder or not self.submission:
            return [os.path.join(folder, "coco_instances_results.json")] if folder else []
        ids = self._metadata.get("thing_dataset_id_to_contiguous_id") or {}
        of_json = {class_id: category_id for category_id, class_id in ids.items()}
        rows = [
            {**row, "category_id": of_json.get(row["category_id"], row["category_id"])}
            for prediction in predictions
            for row in prediction.get("instances", ())
        ]
        return write_submission(folder, self.submission, rows)

    def _tasks_from_predictions(self, predictions: Sequence[Mapping]) -> list[str]:
        tasks = super()._tasks_from_predictions(predictions)
        truth = list(self._coco_api.anns.values())
        bare = [annotation for annotation in truth if not annotation.get("segmentation")]
        if "segm" not in tasks or not bare:
            return tasks
        self._logger.warning(
            "The masks are not measured: %d of %d objects in the ground truth have no mask that "
            "can be drawn, the first: annotation %s of image %r.",
            len(bare),
            len(truth),
            bare[0]["id"],
            bare[0]["image_id"],
        )
        return [task for task in tasks if task != "segm"]

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: list[str] | None = None
    ) -> dict[str, float]:
        if iou_type not in ("bbox", "segm"):
            return super()._derive_coco_results(coco_eval, iou_type, class_names)
        labels = class_labels(self._metadata)
        if coco_eval is None:
            self._logger.warning("No detection in the whole data set: AP is 0.")
            results = dict.fromkeys(_METRICS, 0.0)
        else:
            results = super()._derive_coco_results(coco_eval, iou_type, labels)
            results.update(subset_metrics(coco_eval, self.class_ids))
            for class_id in set(range(len(labels))).difference(self.class_ids):
                results.pop(f"AP-{labels[class_id]}", None)
        title = f"{iou_type} over {len(self.class_ids)} of the {len(labels)} classes"
        mine = metric_tables(title, results)
        self.tables += mine
        self._logger.info("%s", mine[0])  # the stock code prints the single classes
        return results


@contextmanager
def _constructible(dataset_name: str) -> Iterator[str]:
    """Yield a name of which Detectron2's constructor reads an empty json instead of the file.

    It would read the file as it is and fail at the first annotation without an id, say; the truth
    is put in its place afterwards. A data set without a json is left to it.
    """
    if not MetadataCatalog.get(dataset_name).get("json_file"):
        yield dataset_name
        return
    name = f"{dataset_name}_{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder:
        empty = os.path.join(folder, "empty.json")
        with open(empty, "w") as file:
            json.dump({"images": [], "annotations": [], "categories": []}, file)
        MetadataCatalog.get(name).json_file = empty
        try:
            yield name
        finally:
            MetadataCatalog.remove(name)


def _with_plain_ids(metadata: Metadata) -> Metadata:
    """The metadata, or a copy with numbers where Detectron2's reader kept category ids as texts."""
    key = "thing_dataset_id_to_contiguous_id"
    ids = metadata.get(key) or {}
    if not any(isinstance(i, str) for i in ids):
        return metadata
    return Metadata(**{**metadata.as_dict(), key: {plain_id(i): n for i, n in ids.items()}})


def _copied(prediction: dict[str, Any]) -> dict[str, Any]:
    """A copy: Detectron2 overwrites the class ids, which would spoil a second `evaluate`."""
    if "instances" not in prediction:
        return prediction
    return {**prediction, "instances": [dict(result) for result in prediction["instances"]]}


def subset_metrics(coco_eval: COCOeval, class_indices: Sequence[int]) -> dict[str, float]:
    """Compute COCO's summary numbers over some classes.

    Args:
        coco_eval: after `accumulate()`.
        class_indices: positions in `coco_eval.params.catIds` (sorted category ids).

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
