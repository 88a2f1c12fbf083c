"""LVIS (Gupta et al. 2019): fixed AP and standard AP."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils.file_io import PathManager

from ..errors import DataError
from .build import EVALUATORS
from .collect import GatheringEvaluator, Results, log_results_file, write_json_rows
from .detection_table import DetectionTable
from .federated_ap import AREAS, IOU_THRESHOLDS, federated_precision
from .lvis_truth import FREQUENCIES, load_lvis_truth

AP_RULES = ("fixed", "standard")
PER_CLASS = 10_000
PER_IMAGE = 300
_SLACK = 1_000_000  # rows that may lie around before they are pruned


@EVALUATORS.register()
class LVISFederatedEvaluator(GatheringEvaluator):
    """Computes LVIS's AP, by size (APs, APm, APl) and by frequency of the class (APr, APc, APf).

    * `ap="fixed"` (Dave et al. 2021, "Evaluating Large-Vocabulary Object Detectors"; what MDETR,
      GLIP and GLIPv2 report on minival): of each class the 10,000 detections with the highest
      scores in the whole data set count, however many an image has.
    * `ap="standard"` (Gupta et al. 2019): the 300 best detections of each image count.

    Everything after that cut is LVIS's own evaluation, see
    `federated_ap`. GLIP's evaluator reads the first image of each batch
    only and depends on the order of images where scores at the cut are equal; here every image
    counts and equal scores are ordered by image id. GLIP measures its boxes with inclusive pixels,
    ours are Detectron2's continuous ones; the json's are continuous too.

    Detections are kept as arrays, and those that cannot be among the 10,000 of their class any
    more are dropped while others come in: the memory is bounded by classes x 10,000, not by the
    number of images. Of masks only those that may count are pasted, a block at a time, if they come
    as Detectron2's ROIMasks, which `evaluate_test_sets` sees to (`roi_masks`).

    Args:
        dataset_name: a registered data set with `json_file` in LVIS's format.
        output_dir: where `lvis_instances_results.json` (what counted) is written; None: nowhere.
        distributed: gather the detections of all processes.
        ap: "fixed" or "standard"; default: fixed where the name says minival, else standard.

    Raises:
        DataError: bad annotations; later, an image that is unknown, missing or came twice.

    Returns (`evaluate`):
        `{"bbox_fixed": {"AP": ..., "APr": ..., ...}}` or `{"bbox": ...}` for standard AP, in
        percent; the same for `segm` where the model predicts masks. NaN: no such objects.
    """

    roi_masks = True

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        ap: str | None = None,
    ):
        self.ap = ap or ("fixed" if "minival" in dataset_name else "standard")
        if self.ap not in AP_RULES:
            raise ValueError(f"ap must be one of {AP_RULES}, got {ap!r}")
        metadata = MetadataCatalog.get(dataset_name)
        self.truth = load_lvis_truth(PathManager.get_local_path(metadata.json_file))
        image_ids = self.truth.image_ids.tolist()
        super().__init__(dataset_name, image_ids, output_dir, distributed)
        self._image_index = {image_id: i for i, image_id in enumerate(image_ids)}
        self._category_index = _category_indices(
            self.truth.category_ids, metadata.get("thing_dataset_id_to_contiguous_id")
        )

    def reset(self) -> None:
        """Begin a new evaluation."""
        super().reset()
        self._tables: list[DetectionTable] = []
        self._per_class = np.zeros(len(self.truth.category_ids), dtype=np.int64)

    def collected(self) -> DetectionTable:
        """Return one table, for fixed AP with the best of each class only."""
        self._prune()
        return DetectionTable.concatenate(self._tables)

    def score(self, parts: list[DetectionTable]) -> Results:
        """Apply the cut of `ap`, write the results file, compute AP of boxes and masks."""
        detections = DetectionTable.concatenate(parts)
        if self.ap == "fixed":
            detections = detections.best_per_category(PER_CLASS)
        else:
            detections = detections.take(np.lexsort((detections.place, detections.image)))
        truth = self.truth
        paths = []
        if self._output_dir:
            rows = detections.results(truth.image_ids, truth.category_ids, truth.sizes)
            paths.append(os.path.join(self._output_dir, "lvis_instances_results.json"))
            write_json_rows(paths[0], rows)
        if not len(truth.image):
            log_results_file(self.dataset_name, paths, len(truth.image_ids))
            return {}
        results: Results = {}
        for task in ("bbox",) if detections.counts is None else ("bbox", "segm"):
            if task == "segm":
                truth.load_masks()
            precision = federated_precision(truth, detections, masks=task == "segm")
            group = task if self.ap == "standard" else f"{task}_fixed"
            results[group] = lvis_metrics(precision, truth.frequency)
            what = f"{len(truth.image_ids)} images of {self.dataset_name}"
            title = f"{task} ({self.ap} AP), {what}, {len(detections)} detections"
            self.log_metrics(title, results[group])
        return results

    def add_image(self, image_id: int, instances: Instances) -> None:
        """Add the detections to the tables, which are pruned now and then."""
        classes = instances.pred_classes.numpy()
        if len(classes) and not 0 <= classes.min() <= classes.max() < len(self._category_index):
            raise DataError(
                f"image {image_id!r}: a prediction has class {classes.max()}, "
                f"but {self.dataset_name!r} has {len(self._category_index)} classes"
            )
        table = DetectionTable.from_instances(
            self._image_index[image_id],
            self._category_index[classes],
            instances,
            limit=PER_IMAGE if self.ap == "standard" else None,
        )
        self._tables.append(table)
        self._per_class += np.bincount(table.category, minlength=len(self._per_class))
        kept = np.minimum(self._per_class, PER_CLASS).sum()
        if self._per_class.sum() - kept > max(kept, _SLACK):
            self._prune()

    def _prune(self) -> None:
        if self.ap == "fixed":
            table = DetectionTable.concatenate(self._tables).best_per_category(PER_CLASS)
            self._tables = [table]
            self._per_class = np.minimum(self._per_class, PER_CLASS)


def lvis_metrics(precision: np.ndarray, frequency: np.ndarray) -> dict[str, float]:
    """Compute the means that LVIS reports, in percent; NaN where nothing goes into a mean.

    Args:
        precision: (T, R, K, A) of `federated_precision`.
        frequency: (K,) of "r", "c", "f".
    """
    everything = precision[..., list(AREAS).index("all")]
    results = {"AP": _mean(everything)}
    for percent in (50, 75):
        results[f"AP{percent}"] = _mean(everything[np.isclose(IOU_THRESHOLDS, percent / 100)])
    for index, area in enumerate(AREAS):
        if area != "all":
            results[f"AP{area}"] = _mean(precision[..., index])
    for group in FREQUENCIES:
        results[f"AP{group}"] = _mean(everything[:, :, frequency == group])
    return results


def _mean(precision: np.ndarray) -> float:
    values = precision[precision > -1]
    return 100 * float(values.mean()) if values.size else float("nan")


def _category_indices(category_ids: np.ndarray, contiguous: Mapping[int, int] | None) -> np.ndarray:
    """Map contiguous class ids to indices of `category_ids`; LVIS's ids are contiguous from 1."""
    if contiguous is None:
        return np.arange(len(category_ids))
    by_class = sorted(contiguous, key=contiguous.__getitem__)
    index = {category: i for i, category in enumerate(category_ids.tolist())}
    return np.array([index[category] for category in by_class])
