"""What all evaluators share: the check that each image is evaluated once, gathering, files."""

from __future__ import annotations

import itertools
import json
import logging
import os
import zipfile
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances, ROIMasks
from detectron2.utils import comm

from ..errors import DataError
from ..files import whole_file
from .tables import Table, metric_tables

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
        """Record the image of a model input as evaluated and return its id.

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

    Subclasses implement `add_image` (or `add_output`), `collected` and `score`.

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
            instances = checked_instances(output, image_id)
            self.add_output(image_id, {**output, "instances": instances})

    def evaluate(self) -> Results:
        """Score the predictions of all processes.

        Returns:
            {metric group: {metric: value in percent}} in the main process, {} in the others.

        Raises:
            DataError: images are missing, or were evaluated by two processes.
        """
        parts = self._ledger.gather(self.collected(), self._distributed)
        self.tables = []
        return {} if parts is None else self.score(parts)

    def add_output(self, image_id: Any, output: Mapping[str, Any]) -> None:
        """Keep what counts of an image's output; by default its "instances" alone do."""
        self.add_image(image_id, output["instances"])

    def add_image(self, image_id: Any, instances: Instances) -> None:
        """Keep what counts of the predictions of an image."""
        raise NotImplementedError

    def collected(self) -> Any:
        """Return what this process has kept; it is sent to the main process."""
        raise NotImplementedError

    def score(self, parts: list[Any]) -> Results:
        """Compute the results, in the main process, from what each process has `collected`."""
        raise NotImplementedError

    def log_metrics(self, title: str, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one task; see `log_tables`."""
        self.log_tables(*metric_tables(title, metrics))

    def log_tables(self, *tables: Table) -> None:
        """Log the first of some tables, and add all of them to `tables`, which are written."""
        self.tables += tables
        logging.getLogger(__name__).info("%s", tables[0])


def checked_instances(output: Mapping[str, Any], image_id: Hashable) -> Instances:
    """Return `output["instances"]` on the CPU; ROIMasks stay on their device and are pasted there.

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


def log_results_file(dataset_name: str, paths: Sequence[str], num_images: int) -> None:
    """Log where the predictions on a test set without annotations are, for its server."""
    if paths:
        kept = f"are in {' and '.join(paths)}, in the format of its server"
    else:
        kept = "were not written: give the evaluator an output_dir"
    logging.getLogger(__name__).warning(
        "%s has no annotations, so no AP can be computed here. The predictions on its %d images %s",
        dataset_name,
        num_images,
        kept,
    )


def write_json_rows(path: str, rows: Iterable[Any]) -> None:
    """Write a json list with one entry per line, without holding all of it."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path, "w") as file:
        file.writelines(_json_lines(rows))


def write_submission(folder: str, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write predictions as COCO's server takes them: boxes and masks, each in a zip of its own.

    A mask goes without its box, of which pycocotools would take the area.

    Args:
        folder: gets `bbox/<name>.zip` with `<name>.json` in it and, where there are masks,
            `segm/<name>.zip`.
        name: as https://cocodataset.org/#upload asks for.
        rows: in COCO's results format.

    Returns:
        The files.
    """
    paths = []
    for task, field in (("bbox", "bbox"), ("segm", "segmentation")):
        if task == "segm" and not any(field in row for row in rows):
            continue
        fields = ("image_id", "category_id", field, "score")
        path = os.path.join(folder, task, f"{name}.zip")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(f"{name}.json", "w", force_zip64=True) as entry:
                for line in _json_lines({key: row[key] for key in fields} for row in rows):
                    entry.write(line.encode())
        paths.append(path)
    return paths


def _json_lines(rows: Iterable[Any]) -> Iterator[str]:
    """A json list as text, an entry at a time."""
    yield "["
    for index, row in enumerate(rows):
        yield ("," if index else "") + "\n" + json.dumps(row)
    yield "\n]\n"
