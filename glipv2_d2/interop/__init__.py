"""What is found, for other programs: files of labels, and the types of other libraries."""

from .formats import FORMATS, Writer, exports
from .labels import DetectedImage, Detection, Labels
from .libraries import to_fiftyone, to_supervision, to_torchmetrics
from .tables import instances_table

__all__ = [
    "FORMATS",
    "DetectedImage",
    "Detection",
    "Labels",
    "Writer",
    "exports",
    "instances_table",
    "to_fiftyone",
    "to_supervision",
    "to_torchmetrics",
]
