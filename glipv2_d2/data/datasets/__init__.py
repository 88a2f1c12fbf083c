"""Loaders and registrations of data sets."""

from glipv2_d2.data.datasets.mdetr import load_mdetr_json
from glipv2_d2.data.datasets.register import GROUNDING_FORMATS, register_grounding_dataset

__all__ = ["GROUNDING_FORMATS", "load_mdetr_json", "register_grounding_dataset"]
