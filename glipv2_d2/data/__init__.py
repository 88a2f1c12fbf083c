"""Prompts, data sets, the mapper and the loaders."""

from glipv2_d2.data.build import (
    build_grounding_test_loader,
    build_grounding_train_loader,
)
from glipv2_d2.data.checks import check_records
from glipv2_d2.data.datasets import (
    load_mdetr_json,
    register_coco_dataset,
    register_grounding_dataset,
)
from glipv2_d2.data.images import ImageReadError, read_image, read_record_image
from glipv2_d2.data.loading import load_records
from glipv2_d2.data.mappers import GroundingDatasetMapper
from glipv2_d2.data.problems import DataError
from glipv2_d2.data.prompts import DetectionPromptSampler

__all__ = [
    "DataError",
    "DetectionPromptSampler",
    "GroundingDatasetMapper",
    "ImageReadError",
    "build_grounding_test_loader",
    "build_grounding_train_loader",
    "check_records",
    "load_mdetr_json",
    "load_records",
    "read_image",
    "read_record_image",
    "register_coco_dataset",
    "register_grounding_dataset",
]
