"""The registry of evaluators, and the one that fits a data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from fvcore.common.registry import Registry

from ..data.loading import read_dataset

__all__ = ["EVALUATORS", "build_evaluator"]


class _Evaluators(Registry):
    def __setitem__(self, name: str, evaluator: Callable[..., DatasetEvaluator]) -> None:
        """As in 0.1, when this was a dict. Gone in 0.3."""
        message = "EVALUATORS is a registry now: decorate the class with @EVALUATORS.register()"
        warnings.warn(message, FutureWarning, stacklevel=2)
        self._do_register(name, evaluator)


EVALUATORS = _Evaluators("EVALUATORS")
EVALUATORS.__doc__ = """
Registry of evaluators: classes or functions, called as
`(dataset_name, output_dir=..., distributed=..., **options)`. `evaluator_type` in the metadata of a
data set is the name of one, or a type that Detectron2 or this project gives its own data sets.
"""
_OF_TYPE = {
    "caption": "CaptionEvaluator",
    "coco": "SubsetCOCOEvaluator",
    "flickr30k": "Flickr30kEvaluator",
    "gated_f1": "GatedF1Evaluator",
    "grounded_caption": "GroundedCaptionEvaluator",
    "lvis": "LVISFederatedEvaluator",
    "phrasecut": "PhraseCutEvaluator",
    "refexp": "RefExpEvaluator",
    "region_classification": "RegionClassificationEvaluator",
    "region_retrieval": "RegionRetrievalEvaluator",
    "vqa": "VQAEvaluator",
}


def build_evaluator(
    dataset_name: str,
    output_dir: str | None = None,
    distributed: bool = True,
    **options: Any,
) -> DatasetEvaluator:
    """Build the evaluator for a registered data set, chosen by `evaluator_type` of its metadata.

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
    name = kind if kind in EVALUATORS else _OF_TYPE.get(kind)
    if name is None:
        known = sorted({*_OF_TYPE, *(name for name, _ in EVALUATORS)} - set(_OF_TYPE.values()))
        raise ValueError(
            f"data set {dataset_name!r} has evaluator_type {kind!r}, for which there is no "
            f"evaluator; known: {known}. Register a class of that name with "
            "glipv2_d2.evaluation.EVALUATORS.register(), or leave the data set out of the test sets"
        )
    # Loading fills in the class names and ids that the COCO evaluator translates by.
    if kind == "coco" and not hasattr(metadata, "thing_dataset_id_to_contiguous_id"):
        read_dataset(dataset_name)
    return EVALUATORS.get(name)(
        dataset_name, output_dir=output_dir, distributed=distributed, **options
    )
