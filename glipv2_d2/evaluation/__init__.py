"""Evaluators of the benchmarks in the papers, a file for each protocol."""

from .build import EVALUATORS, build_evaluator
from .captions import CaptionEvaluator
from .flickr30k import Flickr30kEvaluator
from .gated_f1 import GatedF1Evaluator
from .grounded_captions import GroundedCaptionEvaluator
from .lvis_ap import LVISFederatedEvaluator
from .phrasecut import PhraseCutEvaluator
from .record_evaluator import RecordEvaluator
from .refexp import RefExpEvaluator
from .regions import RegionClassificationEvaluator, RegionEvaluator, RegionRetrievalEvaluator
from .subset_coco import SubsetCOCOEvaluator
from .vqa import VQAEvaluator

__all__ = [
    "EVALUATORS",
    "CaptionEvaluator",
    "Flickr30kEvaluator",
    "GatedF1Evaluator",
    "GroundedCaptionEvaluator",
    "LVISFederatedEvaluator",
    "PhraseCutEvaluator",
    "RecordEvaluator",
    "RefExpEvaluator",
    "RegionClassificationEvaluator",
    "RegionEvaluator",
    "RegionRetrievalEvaluator",
    "SubsetCOCOEvaluator",
    "VQAEvaluator",
    "build_evaluator",
]
