"""Data sets: a reader of a format, checked records, the mapper, the loaders.

::

    DatasetCatalog[name]: Reader ──read(report)──> records of a list, or a RecordIndex
        ──training_records──> Records (checked, filtered; shared by the processes of a machine)
        ──MixingSampler, SampleStream──> GroundingDatasetMapper ──> batches of model inputs

What is wrong with a data set goes into its `Report`. A format of one's own is a function in
`GROUNDING_FORMATS`.
"""

from .build import build_grounding_test_loader, build_grounding_train_loader
from .checks import check_records
from .datasets.detection_formats import detect_format, register_detection_dataset
from .datasets.mdetr import load_mdetr_json
from .datasets.register import GROUNDING_FORMATS, register_coco_dataset, register_grounding_dataset
from .images import read_record_image
from .loading import load_records
from .mappers.grounding import GroundingDatasetMapper
from .reader import RecordIndex
from .report import RecordError, Report

__all__ = [
    "GROUNDING_FORMATS",
    "GroundingDatasetMapper",
    "RecordError",
    "RecordIndex",
    "Report",
    "build_grounding_test_loader",
    "build_grounding_train_loader",
    "check_records",
    "detect_format",
    "load_mdetr_json",
    "load_records",
    "read_record_image",
    "register_coco_dataset",
    "register_detection_dataset",
    "register_grounding_dataset",
]
