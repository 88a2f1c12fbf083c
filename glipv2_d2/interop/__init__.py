"""What is found, for other programs: files of labels, and the types of other libraries."""

from .formats import FORMATS, Writer, exports
from .labels import DetectedImage, Detection, Labels

__all__ = ["FORMATS", "DetectedImage", "Detection", "Labels", "Writer", "exports"]
