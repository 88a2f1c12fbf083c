"""Heads on the fused features: boxes and words, and the task heads beside them."""

from .grounding import GroundingHead, GroundingOutput
from .hourglass import StackedHourglass
from .mask import LanguageMaskHead, MaskTargets
from .mlm import MaskedLanguageHead
from .task_head import RefiningHead, TaskHead, TrainingBatch, TrainingPass

__all__ = [
    "GroundingHead",
    "GroundingOutput",
    "LanguageMaskHead",
    "MaskTargets",
    "MaskedLanguageHead",
    "RefiningHead",
    "StackedHourglass",
    "TaskHead",
    "TrainingBatch",
    "TrainingPass",
]
