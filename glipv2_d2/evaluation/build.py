"""The evaluator that fits a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ..data.loading import read_dataset
from .flickr30k import Flickr30kEvaluator
from .lvis_ap import LVISFederatedEvaluator
from .phrasecut import PhraseCutEvaluator
from .refexp import RefExpEvaluator
from .subset_coco import SubsetCOCOEvaluator

# evaluator_type of the metadata -> class or function that is called as
# (dataset_name, output_dir=..., distributed=..., **options)
EVALUATORS: dict[str, Callable[..., DatasetEvaluator]] = {
    "coco": SubsetCOCOEvaluator,
    "lvis": LVISFederatedEvaluator,
    "flickr30k": Flickr30kEvaluator,
    "refexp": RefExpEvaluator,
    "phrasecut": PhraseCutEvaluator,
}


def build_evaluator(
    dataset_name: str,
    output_dir: str | None = None,
    distributed: bool = True,
    **options: Any,
) -> DatasetEvaluator:
    """The evaluator for a registered data set, chosen by `evaluator_type` of its metadata.

    Args:
        dataset_name: name in the `DatasetCatalog`.
        output_dir: where predictions are dumped; None: nowhere.
        distributed: gather the predictions of all processes.
        options: of the evaluator, e.g. `ap="standard"` for LVIS; see the classes.

    Raises:
        ValueError: an unknown data set, or an evaluator type that is not in `EVALUATORS`.
    """
    if dataset_name not in DatasetCatalog.list():
        raise ValueError(
            f"there is no registered data set {dataset_name!r}: register it first, e.g. with "
            "detectron2.data.datasets.register_coco_instances"
        )
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type")
    if kind not in EVALUATORS:
        raise ValueError(
            f"data set {dataset_name!r} has evaluator_type {kind!r}, for which there is no "
            f"evaluator; known: {sorted(EVALUATORS)}. Add a class to "
            "glipv2_d2.evaluation.EVALUATORS, or leave the data set out of the test sets."
        )
    # Loading fills in the class names and ids that the COCO evaluator translates by.
    if kind == "coco" and not hasattr(metadata, "thing_dataset_id_to_contiguous_id"):
        read_dataset(dataset_name)
    return EVALUATORS[kind](dataset_name, output_dir=output_dir, distributed=distributed, **options)
