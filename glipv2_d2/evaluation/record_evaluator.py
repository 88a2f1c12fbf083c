"""Base of the evaluators of captions: Flickr30k, RefCOCO, PhraseCut."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode, Instances
from detectron2.utils.file_io import PathManager

from ..errors import DataError
from .collect import GatheringEvaluator, Results, write_json_rows

Record = dict[str, Any]


class RecordEvaluator(GatheringEvaluator):
    """Base of the evaluators whose unit is one record: an image with a caption.

    Subclasses implement `score_records`, which gets the predictions of all records in the order
    of the data set, so that the result cannot depend on batches, order and processes. What is kept
    of a record, and written to the file, are its boxes; others override `prediction_of` and
    `as_row`.

    Args:
        dataset_name: a registered data set.
        output_dir: where `<data set>_predictions.json` is written; None: nowhere.
        distributed: gather the predictions of all processes.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, distributed: bool = True):
        if dataset_name not in DatasetCatalog.list():
            raise DataError(f"there is no registered data set {dataset_name!r}")
        self.records: list[Record] = DatasetCatalog.get(dataset_name)
        image_ids = [record["image_id"] for record in self.records]
        super().__init__(dataset_name, image_ids, output_dir, distributed)
        self._by_id = dict(zip(image_ids, self.records))

    def reset(self) -> None:
        """Begin a new evaluation."""
        super().reset()
        self._predictions: dict[Hashable, Any] = {}

    def add_image(self, image_id: Hashable, instances: Instances) -> None:
        """Keep the prediction of the record with this id."""
        self._predictions[image_id] = self.prediction_of(self._by_id[image_id], instances)

    def collected(self) -> dict[Hashable, Any]:
        """Return image id -> prediction."""
        return self._predictions

    def score(self, parts: list[dict[Hashable, Any]]) -> Results:
        """Bring the predictions into the order of the records, write the file, score."""
        predictions = {image_id: p for part in parts for image_id, p in part.items()}
        ordered = [predictions[record["image_id"]] for record in self.records]
        if self._output_dir:
            name = f"{self.dataset_name}_predictions.json"
            keys = ("image_id", "original_img_id", "original_id", "sentence_id", "task_id")
            rows = (
                {key: record[key] for key in (*keys, "caption") if key in record}
                | self.as_row(prediction)
                for record, prediction in zip(self.records, ordered)
            )
            write_json_rows(os.path.join(self._output_dir, name), rows)
        return self.score_records(ordered)

    def prediction_of(self, record: Record, instances: Instances) -> Any:
        """Return what is kept of the predictions of one record.

        By default all, sorted by score, the highest first; ties stay in their order.

        Args:
            record: of the caption. Predictions must be for one of its `phrases`; without that field
                the whole caption is one. Where the list is empty nothing is asked, and nothing
                checked.
            instances: with `pred_boxes`, `scores` and `pred_classes`, the index of the phrase.

        Returns:
            `boxes` (N, 4) float64 x0, y0, x1, y1; `scores` (N,); `phrases` (N,) int.

        Raises:
            DataError: a predicted phrase that the record does not ask for.
        """
        num_phrases = len(record.get("phrases", [0]))
        prediction = ranked(instances)
        phrases = prediction["phrases"]
        if num_phrases and len(phrases) and not 0 <= phrases.min() <= phrases.max() < num_phrases:
            raise DataError(
                f"image {record['image_id']!r}: a prediction is for phrase {phrases.max()}, but "
                f"the record asks for {num_phrases} phrases. Was the prompt not made from its "
                "'phrases'?"
            )
        return prediction

    def as_row(self, prediction: Any) -> Record:
        """Return what is written to the file for one record; boxes are x0, y0, x1, y1 in pixels."""
        return {
            "boxes": np.round(prediction["boxes"], 2).tolist(),
            "scores": np.round(prediction["scores"].astype(float), 5).tolist(),
            "phrases": prediction["phrases"].tolist(),
        }

    def score_records(self, predictions: list[Any]) -> Results:
        """Compute the results from what `prediction_of` gave for each of `records`."""
        raise NotImplementedError


def ranked(instances: Instances) -> dict[str, np.ndarray]:
    """What `RecordEvaluator.prediction_of` returns by default."""
    scores = instances.scores.float().numpy()
    order = np.argsort(-scores, kind="stable")
    boxes = instances.pred_boxes.tensor.double().numpy()
    phrases = instances.pred_classes.numpy().astype(np.int64)
    return {"boxes": boxes[order], "scores": scores[order], "phrases": phrases[order]}


def true_box(annotation: Record) -> list[float]:
    """Return the box of a record's annotation as x0, y0, x1, y1."""
    return BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)


def benchmark_files(given: str | None, dataset_name: str, key: str, consequence: str) -> str | None:
    """Find the benchmark's own file or folder, from which the ground truth is better taken.

    Args:
        given: by the user; must exist (whoever reads it says so).
        dataset_name: of the data set whose metadata may name it too.
        key: of the metadata. Registered data sets always name a place; that it is empty is no
            error, but logged.
        consequence: what is different without, for the log.
    """
    if given:
        return given
    path = MetadataCatalog.get(dataset_name).get(key)
    if path and PathManager.exists(path):
        return path
    where = f"{path!r} is not there" if path else "no place is named"
    logging.getLogger(__name__).warning("%s: %s (%s): %s", dataset_name, key, where, consequence)
    return None
