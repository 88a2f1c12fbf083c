"""Evaluators, and the yardsticks that their numbers stand beside."""

from glipv2_d2.evaluation.build import EVALUATORS, build_evaluator
from glipv2_d2.evaluation.oracles import composition_oracles
from glipv2_d2.evaluation.subset_coco import SubsetCOCOEvaluator

__all__ = ["EVALUATORS", "SubsetCOCOEvaluator", "build_evaluator", "composition_oracles"]
