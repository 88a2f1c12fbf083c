"""Language: tokeniser, encoders and the features they hand on."""

from .bert import BertLanguageBackbone
from .build import LANGUAGE_BACKBONE_REGISTRY
from .cache import TextFeatureCache
from .features import TextFeatures
from .tokenizer import PromptTokenizer, PromptTooLongError, TokenizedPrompts

__all__ = [
    "LANGUAGE_BACKBONE_REGISTRY",
    "BertLanguageBackbone",
    "PromptTokenizer",
    "PromptTooLongError",
    "TextFeatureCache",
    "TextFeatures",
    "TokenizedPrompts",
]
