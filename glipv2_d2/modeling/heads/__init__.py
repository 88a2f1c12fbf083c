"""Heads on the fused features: boxes and words, and the task heads beside them."""

from .caption import CaptionHead
from .grounding import GroundingHead, GroundingOutput
from .hourglass import StackedHourglass
from .mask import LanguageMaskHead, MaskTargets
from .mlm import MaskedLanguageHead
from .presence import PresenceHead
from .task_head import (
    AnsweringHead,
    RefiningHead,
    TaskHead,
    TrainingBatch,
    TrainingPass,
    WritingHead,
    require_learnable,
)
from .vqa import VqaHead

__all__ = [
    "AnsweringHead",
    "CaptionHead",
    "GroundingHead",
    "GroundingOutput",
    "LanguageMaskHead",
    "MaskTargets",
    "MaskedLanguageHead",
    "PresenceHead",
    "RefiningHead",
    "StackedHourglass",
    "TaskHead",
    "TrainingBatch",
    "TrainingPass",
    "VqaHead",
    "WritingHead",
    "require_learnable",
]
