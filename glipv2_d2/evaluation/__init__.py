"""Evaluators of the papers' benchmarks, and the yardsticks that their numbers stand beside."""

from glipv2_d2.evaluation.build import EVALUATORS, build_evaluator
from glipv2_d2.evaluation.flickr30k import Flickr30kEvaluator
from glipv2_d2.evaluation.lvis_ap import LVISFederatedEvaluator
from glipv2_d2.evaluation.oracles import composition_oracles
from glipv2_d2.evaluation.phrasecut import PhraseCutEvaluator
from glipv2_d2.evaluation.refexp import RefExpEvaluator
from glipv2_d2.evaluation.subset_coco import SubsetCOCOEvaluator

__all__ = [
    "EVALUATORS",
    "Flickr30kEvaluator",
    "LVISFederatedEvaluator",
    "PhraseCutEvaluator",
    "RefExpEvaluator",
    "SubsetCOCOEvaluator",
    "build_evaluator",
    "composition_oracles",
]
