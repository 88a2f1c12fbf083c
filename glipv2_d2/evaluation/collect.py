"""What all evaluators share: each image exactly once, whatever the batches and processes."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances, ROIMasks
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ..errors import DataError
from ..files import whole_file
from .tables import Table, metric_tables

Record = dict[str, Any]
Results = dict[str, dict[str, float]]


class ImageLedger:
    """Checks that every image of a data set is evaluated exactly once.

    A missing image raises recall or lowers AP without a word; an image that is evaluated twice
    counts its false positives twice. Detectron2's `InferenceSampler` gives out each image once; a
    sampler that pads the last batch (PyTorch's `DistributedSampler`) does not.

    Args:
        image_ids: of the data set, each once.
        dataset_name: for the messages.

    Raises:
        DataError: an id that is there twice.
    """

    def __init__(self, image_ids: Iterable[Hashable], dataset_name: str):
        self.dataset_name = dataset_name
        self.image_ids = list(image_ids)
        twice = [i for i, count in Counter(self.image_ids).items() if count > 1]
        if twice:
            raise DataError(
                f"data set {dataset_name!r}: {len(twice)} image ids stand for several records, "
                f"the first: {twice[0]!r}. Give each record an id of its own."
            )
        self._known = set(self.image_ids)
        self.seen: set[Hashable] = set()

    def reset(self) -> None:
        """Begin a new evaluation."""
        self.seen = set()

    def add(self, model_input: Mapping[str, Any]) -> Hashable:
        """Note the image of a model input and return its id.

        Raises:
            DataError: no id, an id that the data set does not have, or one that was there before.
        """
        image_id = model_input.get("image_id")
        if image_id not in self._known:
            raise DataError(
                f"evaluation of {self.dataset_name!r}: there is no image {image_id!r} in the data "
                "set. Is the test loader that of another data set?"
            )
        if image_id in self.seen:
            raise DataError(self._twice([image_id]))
        self.seen.add(image_id)
        return image_id

    def gather(self, data: Any, distributed: bool) -> list[Any] | None:
        """After the last image: gather the data of all processes in the main one.

        Called by every process, and fails in all of them alike.

        Returns:
            The data of each process in the main one, None in the others.

        Raises:
            DataError: images are missing, or were evaluated by two processes.
        """
        seen = comm.all_gather(sorted(self.seen, key=repr)) if distributed else [self.seen]
        counts = Counter(itertools.chain.from_iterable(seen))
        twice = [image_id for image_id in self.image_ids if counts[image_id] > 1]
        if twice:
            raise DataError(self._twice(twice))
        missing = [image_id for image_id in self.image_ids if not counts[image_id]]
        if missing:
            raise DataError(
                f"evaluation of {self.dataset_name!r}: {len(missing)} of {len(self.image_ids)} "
                f"images were not evaluated, the first: {missing[0]!r}. Did the test loader skip "
                "images (damaged or missing files), or stop early?"
            )
        if not distributed:
            return [data]
        return comm.gather(data, dst=0) or None

    def _twice(self, image_ids: Sequence[Hashable]) -> str:
        return (
            f"evaluation of {self.dataset_name!r}: {len(image_ids)} images were evaluated twice, "
            f"the first: {image_ids[0]!r}. Use a sampler that deals out each image once "
            "(detectron2's InferenceSampler), and reset() between two evaluations."
        )


class GatheringEvaluator(DatasetEvaluator):
    """Base of the evaluators: takes each image once and scores all of them in the main process.

    Subclasses implement `_add` (in every process, for each image), `_collected` (what a process
    has) and `_score` (in the main process).

    Args:
        dataset_name: a registered data set.
        image_ids: all ids of its images.
        output_dir: where the predictions are written; None: nowhere.
        distributed: gather the predictions of all processes.
    """

    def __init__(
        self,
        dataset_name: str,
        image_ids: Iterable[Hashable],
        output_dir: str | None,
        distributed: bool,
    ):
        self.dataset_name = dataset_name
        self._output_dir = output_dir
        self._distributed = distributed
        self._ledger = ImageLedger(image_ids, dataset_name)
        self.tables: list[Table] = []
        self.reset()

    def reset(self) -> None:
        """Begin a new evaluation."""
        self._ledger.reset()

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take the predictions of a batch.

        Args:
            inputs: model inputs with `image_id`.
            outputs: for each of them `{"instances": Instances}` in the original image's pixels.

        Raises:
            DataError: an image that is unknown or came before, or predictions that are NaN.
        """
        for model_input, output in zip(inputs, outputs, strict=True):
            image_id = self._ledger.add(model_input)
            self._add(image_id, checked_instances(output, image_id))

    def evaluate(self) -> Results:
        """Score the predictions of all processes.

        Returns:
            {metric group: {metric: value in percent}} in the main process, {} in the others.

        Raises:
            DataError: images are missing, or were evaluated by two processes.
        """
        parts = self._ledger.gather(self._collected(), self._distributed)
        self.tables = []
        return {} if parts is None else self._score(parts)

    def _add(self, image_id: Any, instances: Instances) -> None:
        raise NotImplementedError

    def _collected(self) -> Any:
        raise NotImplementedError

    def _score(self, parts: list[Any]) -> Results:
        raise NotImplementedError

    def _report(self, title: str, metrics: Mapping[str, float]) -> None:
        self._show(*metric_tables(title, metrics))

    def _show(self, *tables: Table) -> None:
        self.tables += tables
        logging.getLogger(__name__).info("%s", tables[0])


class RecordEvaluator(GatheringEvaluator):
    """Base of the evaluators whose unit is one record: an image with a caption.

    Subclasses implement `_score_records`, which gets the predictions of all records in the order
    of the data set, so that the result cannot depend on batches, order and processes. By default
    the prediction of a record is its boxes, best first; see `ranked_boxes`.

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

    def _add(self, image_id: Hashable, instances: Instances) -> None:
        self._predictions[image_id] = self._prepare(self._by_id[image_id], instances)

    def _collected(self) -> dict[Hashable, Any]:
        return self._predictions

    def _score(self, parts: list[dict[Hashable, Any]]) -> Results:
        predictions = {image_id: p for part in parts for image_id, p in part.items()}
        ordered = [predictions[record["image_id"]] for record in self.records]
        if self._output_dir:
            name = f"{self.dataset_name}_predictions.json"
            keys = ("image_id", "original_img_id", "original_id", "sentence_id", "task_id")
            rows = (
                {key: record[key] for key in (*keys, "caption") if key in record}
                | self._dumped(prediction)
                for record, prediction in zip(self.records, ordered)
            )
            write_json_rows(os.path.join(self._output_dir, name), rows)
        return self._score_records(ordered)

    def _prepare(self, record: Record, instances: Instances) -> Any:
        return ranked_boxes(record, instances)

    def _dumped(self, prediction: Any) -> Record:
        """What is written to the file for one record; boxes are x0, y0, x1, y1 in pixels."""
        return {
            "boxes": np.round(prediction["boxes"], 2).tolist(),
            "scores": np.round(prediction["scores"].astype(float), 5).tolist(),
            "phrases": prediction["phrases"].tolist(),
        }

    def _score_records(self, predictions: list[Any]) -> Results:
        raise NotImplementedError


def checked_instances(output: Mapping[str, Any], image_id: Hashable) -> Instances:
    """`output["instances"]` on the CPU, but for ROIMasks: these are pasted where they are.

    Raises:
        DataError: there are none, or scores or boxes are NaN or infinite.
    """
    if "instances" not in output:
        raise DataError(f"image {image_id!r}: the model's output has no 'instances'")
    instances = output["instances"].to(torch.device("cpu"))
    if instances.has("pred_masks") and isinstance(instances.pred_masks, ROIMasks):
        instances.pred_masks = output["instances"].pred_masks
    for field, values in (
        ("scores", instances.scores[:, None]),
        ("pred_boxes", instances.pred_boxes.tensor),
    ):
        bad = int((~torch.isfinite(values)).flatten(1).any(dim=1).sum())
        if bad:
            raise DataError(
                f"image {image_id!r}: {bad} of {len(instances)} predictions have {field} that are "
                "NaN or infinite: such numbers cannot be ranked. Has the model diverged, or do its "
                "weights overflow in half precision?"
            )
    return instances


def benchmark_files(given: str | None, dataset_name: str, key: str, consequence: str) -> str | None:
    """A file or folder of the benchmark itself that the ground truth is better taken from.

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


def log_results_file(dataset_name: str, path: str | None, num_images: int) -> None:
    """Say what there is of a test set without annotations: a file for the server that has them."""
    if path is None:
        kept = "and were not written: give the evaluator an output_dir"
    else:
        kept = (
            f"are in {path}, in the format of its server (COCO's: in a zip, under the name that "
            "https://cocodataset.org/#upload asks for; LVIS's: https://eval.ai)"
        )
    logging.getLogger(__name__).warning(
        "%s has no annotations, so no AP can be computed here. The predictions on its %d images %s",
        dataset_name,
        num_images,
        kept,
    )


def ranked_boxes(record: Record, instances: Instances) -> dict[str, np.ndarray]:
    """The predictions of a caption, the highest score first (ties stay in the model's order).

    Args:
        record: of the caption. Predictions must be for one of its `phrases`; without that field
            the whole caption is one. Where the list is empty nothing is asked, and nothing checked.
        instances: with `pred_boxes`, `scores` and `pred_classes`, the index of the phrase.

    Returns:
        `boxes` (N, 4) float64 x0, y0, x1, y1; `scores` (N,); `phrases` (N,) int.

    Raises:
        DataError: a predicted phrase that the record does not ask for.
    """
    num_phrases = len(record.get("phrases", [0]))
    phrases = instances.pred_classes.numpy().astype(np.int64)
    if num_phrases and len(phrases) and not 0 <= phrases.min() <= phrases.max() < num_phrases:
        raise DataError(
            f"image {record['image_id']!r}: a prediction is for phrase {phrases.max()}, but the "
            f"record asks for {num_phrases} phrases. Was the prompt not made from its 'phrases'?"
        )
    scores = instances.scores.float().numpy()
    order = np.argsort(-scores, kind="stable")
    boxes = instances.pred_boxes.tensor.double().numpy()
    return {"boxes": boxes[order], "scores": scores[order], "phrases": phrases[order]}


def write_json_rows(path: str, rows: Iterable[Any]) -> None:
    """Write a json list with one entry per line, without holding all of it."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path, "w") as file:
        file.write("[")
        for index, row in enumerate(rows):
            file.write(("," if index else "") + "\n" + json.dumps(row))
        file.write("\n]\n")
