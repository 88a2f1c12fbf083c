"""Measures what a detector scores on scenes if it sees only the color, or only the shape.

AP on color-shape pairs never seen in training shows composition only as far as it exceeds these
two: each has perfect boxes and perfect knowledge of one attribute, and none of the other.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

from ..errors import DataError, UsageError
from ..evaluation.record_evaluator import true_box
from ..evaluation.subset_coco import SubsetCOCOEvaluator

# oracle: position of the word of the class name ("red star") that it knows
_KNOWN_WORD = {"color_blind": 1, "shape_blind": 0}


def composition_oracles(
    dataset_name: str, seeds: Sequence[int] = (0, 1, 2)
) -> dict[str, dict[str, float]]:
    """Compute the AP of perfect boxes with color-blind and with shape-blind labels.

    The color-blind oracle gives each true box the label of its shape in every color, all with
    the same score, and the other way round. Equal scores are put in a random order; the result is
    the mean over several orders. Evaluated by `SubsetCOCOEvaluator`, as a model is.

    Args:
        dataset_name: a registered data set whose class names are "<color> <shape>".
        seeds: one random order of the ties for each.

    Returns:
        {"color_blind": {"AP", "AP50", "AP75"}, "shape_blind": the same} in percent.

    Raises:
        DataError: a class name that is not two words.
        UsageError: no seeds.
    """
    if not seeds:
        raise UsageError("composition_oracles needs at least one seed")
    records = DatasetCatalog.get(dataset_name)
    names = MetadataCatalog.get(dataset_name).thing_classes
    evaluator = SubsetCOCOEvaluator(dataset_name, tasks=("bbox",), distributed=False)
    level = evaluator._logger.level
    evaluator._logger.setLevel(logging.WARNING)  # a dozen tables would hide the model's own
    result = {}
    try:
        for oracle, word in _KNOWN_WORD.items():
            compatible = _compatible(names, word, evaluator.class_ids)
            runs = []
            for rng in map(np.random.default_rng, seeds):
                outputs = [{"instances": _blind_instances(r, compatible, rng)} for r in records]
                evaluator.reset()
                evaluator.process(records, outputs)
                with contextlib.redirect_stdout(io.StringIO()):
                    runs.append(evaluator.evaluate()["bbox"])
            metrics = ("AP", "AP50", "AP75")
            result[oracle] = {key: float(np.mean([run[key] for run in runs])) for key in metrics}
    finally:
        evaluator._logger.setLevel(level)
    return result


def _compatible(names: Sequence[str], word: int, evaluated: Sequence[int]) -> list[list[int]]:
    """Per class, the evaluated classes with the same word at position `word`.

    Labels outside `evaluated` cannot change the AP of those inside and are left out for speed.
    """
    words = [name.split() for name in names]
    for name, parts in zip(names, words):
        if len(parts) != 2:
            raise DataError(f"class {name!r} is not of the form '<color> <shape>'")
    return [[i for i in evaluated if words[i][word] == parts[word]] for parts in words]


def _blind_instances(record: dict, compatible: list[list[int]], rng) -> Instances:
    """Each true box once per compatible label; the scores are nothing but a random order."""
    boxes, classes = [], []
    for annotation in record["annotations"]:
        labels = compatible[annotation["category_id"]]
        boxes += [true_box(annotation)] * len(labels)
        classes += labels
    instances = Instances((record["height"], record["width"]))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.from_numpy(rng.uniform(0.25, 0.75, size=len(classes)))
    instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return instances
