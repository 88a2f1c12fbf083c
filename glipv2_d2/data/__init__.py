"""Prompts, data sets, the mapper and the loaders."""

from .build import (
    build_grounding_test_loader,
    build_grounding_train_loader,
)
from .checks import check_records
from .datasets import (
    load_mdetr_json,
    register_coco_dataset,
    register_grounding_dataset,
)
from .images import read_record_image
from .loading import load_records
from .mappers import GroundingDatasetMapper

__all__ = [
    "GroundingDatasetMapper",
    "build_grounding_test_loader",
    "build_grounding_train_loader",
    "check_records",
    "load_mdetr_json",
    "load_records",
    "read_record_image",
    "register_coco_dataset",
    "register_grounding_dataset",
]
