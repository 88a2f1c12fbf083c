"""Heads on the fused features."""

from .grounding import GroundingHead, GroundingOutput
from .hourglass import StackedHourglass
from .mask import LanguageMaskHead, MaskTargets, bit_masks
from .mlm import MaskedLanguageHead, MaskedWords

__all__ = [
    "GroundingHead",
    "GroundingOutput",
    "LanguageMaskHead",
    "MaskTargets",
    "MaskedLanguageHead",
    "MaskedWords",
    "StackedHourglass",
    "bit_masks",
]
