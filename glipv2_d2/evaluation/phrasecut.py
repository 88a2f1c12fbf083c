"""PhraseCut (Wu et al. 2020): segmenting everything that a phrase refers to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.structures import Instances
from PIL import Image, ImageDraw

from ..data.datasets.phrasecut import read_refer_json
from ..errors import DataError
from .build import EVALUATORS
from .collect import Results
from .detection_table import encode_mask
from .record_evaluator import Record, RecordEvaluator, benchmark_files, true_box

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


class TaskOverlap(NamedTuple):
    """One task: pixels of intersection and union of masks and of boxes, and what was predicted.

    `with_masks` is None where nothing was predicted that would tell; `rle` is the predicted
    region.
    """

    mask: tuple[int, int]
    box: tuple[int, int]
    predictions: int
    with_masks: bool | None
    rle: dict[str, Any]


@EVALUATORS.register()
class PhraseCutEvaluator(RecordEvaluator):
    """Computes the overlap of the region that is predicted for a phrase with its true region.

    A task is a phrase of an image. The predictions above the score threshold are united, and so
    are the true instances. Reported are the mean IoU over tasks, the cumulative IoU (all
    intersections over all unions) and P@0.5 ... P@0.9, the share of tasks with an IoU *above* the
    threshold, in three groups:

    * `phrasecut_mask`: predicted masks against true masks, the benchmark's numbers;
    * `phrasecut_box_as_mask` instead, as long as the model has no masks: the predicted boxes,
      filled, against the true masks. Not comparable with published mask numbers;
    * `phrasecut_box`: filled predicted boxes against filled true boxes, the box numbers of the
      authors' evaluator, which MDETR reports.

    The rules are those of the authors' `Evaluator` (VGPhraseCut), with one difference: it leaves
    out tasks for which there is no prediction, here they have an IoU of 0 (and their area counts
    in the cumulative union). `skip_without_prediction=True` leaves them out.

    The true masks come from the authors' `refer_<split>.json` where `refer_json` names it.
    MDETR's `finetune_phrasecut_<split>.json` keeps one polygon of each instance only, so its
    masks lack parts of the instances that are cut in several; they serve where there is no other.

    Args:
        dataset_name: a registered data set in MDETR's format, one record a task.
        output_dir, distributed: see `RecordEvaluator`.
        score_threshold: predictions must have a higher score. MDETR takes 0.7 of its own scores;
            choose it on the val split.
        skip_without_prediction: see above.
        refer_json: the authors' file; default: `refer_json` of the metadata, if it is there.

    Raises:
        DataError: a task that the authors' file does not have, or one without true polygons.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        score_threshold: float = 0.5,
        skip_without_prediction: bool = False,
        refer_json: str | None = None,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        self.score_threshold = score_threshold
        self.skip_without_prediction = skip_without_prediction
        refer_json = benchmark_files(
            refer_json,
            dataset_name,
            "refer_json",
            "true masks come from the annotations, of which MDETR's json lacks parts; the numbers "
            "of the benchmark need the authors' refer_<split>.json",
        )
        tasks = read_refer_json(refer_json) if refer_json else None
        self._polygons = {r["image_id"]: _polygons_of(r, tasks, dataset_name) for r in self.records}

    def prediction_of(self, record: Record, instances: Instances) -> TaskOverlap:
        """Compute the overlap of what is predicted above the threshold with the true region."""
        size = (record["height"], record["width"])
        kept = instances[instances.scores > self.score_threshold]
        boxes = kept.pred_boxes.tensor.double().numpy()
        if kept.has("pred_masks"):
            region = _united_masks(kept, size, record)
        else:
            region = fill_boxes(boxes, size)
        truth = rasterize(self._polygons[record["image_id"]], size)
        true_boxes = [true_box(annotation) for annotation in record["annotations"]]
        rle = encode_mask(region)
        return TaskOverlap(
            mask=_overlap(region, truth),
            box=_overlap(authors_fill(boxes, size), authors_fill(true_boxes, size)),
            predictions=len(kept),
            with_masks=True if kept.has("pred_masks") else False if len(kept) else None,
            rle={"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        )

    def as_row(self, prediction: TaskOverlap) -> Record:
        """Return the number of predictions and their united region."""
        return {"predictions": prediction.predictions, "segmentation": prediction.rle}

    def score_records(self, predictions: list[TaskOverlap]) -> Results:
        """Compute the IoU over the tasks; see the class."""
        kinds = {task.with_masks for task in predictions} - {None}
        if len(kinds) > 1:
            raise DataError("some predictions have masks and others do not")
        if self.skip_without_prediction:
            predictions = [task for task in predictions if task.predictions]
        if not predictions:
            log = logging.getLogger(__name__)
            log.warning("%s: there are no predictions at all", self.dataset_name)
        group = "phrasecut_mask" if kinds == {True} else "phrasecut_box_as_mask"
        results = {
            group: summarize_overlaps([task.mask for task in predictions]),
            "phrasecut_box": summarize_overlaps([task.box for task in predictions]),
        }
        tasks = f"{len(predictions)} of {len(self.records)} tasks of {self.dataset_name}"
        for name, values in results.items():
            self.log_metrics(f"{name}, {tasks}, scores above {self.score_threshold:g}", values)
        return results


def summarize_overlaps(overlaps: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Compute `mIoU`, `cumIoU` and `P@0.5` ... in percent; NaN without tasks.

    Args:
        overlaps: (intersection, union) of each task; an empty union is an IoU of 0.
    """
    if not overlaps:
        return dict.fromkeys(("mIoU", "cumIoU", *(f"P@{t}" for t in THRESHOLDS)), float("nan"))
    intersection, union = np.array(overlaps, dtype=np.float64).T
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    results = {
        "mIoU": 100 * float(iou.mean()),
        "cumIoU": 100 * float(intersection.sum() / max(union.sum(), 1)),
    }
    results.update({f"P@{t}": 100 * float((iou > t).mean()) for t in THRESHOLDS})
    return results


def rasterize(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Draw the union of polygons as (H, W) bool, as PhraseCut's `polygons_to_mask` does.

    Corners are cut to integers and the outline is included: about half a pixel more all around
    than pycocotools draws.

    Args:
        polygons: each flat: x0, y0, x1, y1, ...
        size: (H, W).
    """
    image = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(image)
    for polygon in polygons:
        corners = [int(value) for value in polygon]
        if len(corners) >= 4:  # PhraseCut skips single points
            draw.polygon(list(zip(corners[::2], corners[1::2])), outline=1, fill=1)
    return np.asarray(image, dtype=bool)


def fill_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mark the pixels whose center lies in one of the (N, 4) boxes x0, y0, x1, y1: (H, W) bool."""
    mask = np.zeros(size, dtype=bool)
    for x0, y0, x1, y1 in np.ceil(np.asarray(boxes) - 0.5).clip(min=0).astype(int).reshape(-1, 4):
        mask[y0:y1, x0:x1] = True
    return mask


def authors_fill(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Fill boxes as PhraseCut's `boxes_to_mask` does: (H, W) bool.

    It takes boxes as x, y, w, h and ends each before `int(x + w - 1)`: the last column and row are
    left out.
    """
    mask = np.zeros(size, dtype=bool)
    for x0, y0, x1, y1 in np.asarray(boxes, dtype=np.float64).reshape(-1, 4):
        ends = max(int(y1 - 1), 0), max(int(x1 - 1), 0)
        mask[max(int(y0), 0) : ends[0], max(int(x0), 0) : ends[1]] = True
    return mask


def _overlap(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    return int((first & second).sum()), int((first | second).sum())


def _united_masks(kept: Instances, size: tuple[int, int], record: Record) -> np.ndarray:
    masks = np.asarray(kept.pred_masks, dtype=bool)
    if len(masks) and masks.shape[1:] != size:
        raise DataError(
            f"image {record['image_id']!r}: the predicted masks have the size {masks.shape[1:]}, "
            f"the image {size}"
        )
    return masks.any(axis=0).reshape(size) if len(masks) else np.zeros(size, dtype=bool)


def _polygons_of(record: Record, by_task: dict | None, dataset_name: str) -> list[list[float]]:
    """Flat polygons of all instances of a task, from the authors' file or the annotations."""
    if by_task is not None:
        instances = by_task.get(record.get("task_id"), ())
        polygons = [polygon for instance in instances for polygon in instance.polygons]
    else:
        polygons = [p for a in record["annotations"] for p in _own_polygons(a, record)]
    if not polygons:
        source = "annotations" if by_task is None else "refer_json"
        raise DataError(
            f"data set {dataset_name!r}: task {record.get('task_id')!r} (image "
            f"{record['image_id']!r}) has no true polygons in its {source}"
        )
    return polygons


def _own_polygons(annotation: Record, record: Record) -> list[list[float]]:
    segmentation = annotation.get("segmentation") or []
    if not isinstance(segmentation, list):
        raise DataError(
            f"image {record['image_id']!r}: PhraseCut's true masks are polygons, but annotation "
            f"{annotation.get('id')!r} has a {type(segmentation).__name__}"
        )
    return segmentation
