"""Evaluators of the benchmarks in the papers, a file for each protocol."""

from .build import EVALUATORS, build_evaluator
from .flickr30k import Flickr30kEvaluator
from .lvis_ap import LVISFederatedEvaluator
from .phrasecut import PhraseCutEvaluator
from .record_evaluator import RecordEvaluator
from .refexp import RefExpEvaluator
from .subset_coco import SubsetCOCOEvaluator
from .vqa import VQAEvaluator

__all__ = [
    "EVALUATORS",
    "Flickr30kEvaluator",
    "LVISFederatedEvaluator",
    "PhraseCutEvaluator",
    "RecordEvaluator",
    "RefExpEvaluator",
    "SubsetCOCOEvaluator",
    "VQAEvaluator",
    "build_evaluator",
]
