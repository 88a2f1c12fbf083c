"""Language: tokeniser, encoders and the features they hand on."""

from .bert import BertLanguageBackbone
from .build import LANGUAGE_BACKBONE_REGISTRY, build_language_backbone
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
    "build_language_backbone",
]
