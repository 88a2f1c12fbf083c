"""Language: tokenizer, encoders and the features they hand on."""

from .bert import BertLanguageBackbone
from .build import LANGUAGE_BACKBONE_REGISTRY, build_language_backbone, build_tokenizer
from .cache import TextFeatureCache
from .clip_text import ClipLanguageBackbone
from .features import TextFeatures
from .parallel_classes import ParallelClassBert
from .tokenizer import PromptTokenizer, PromptTooLongError, TokenizedPrompts

__all__ = [
    "LANGUAGE_BACKBONE_REGISTRY",
    "BertLanguageBackbone",
    "ClipLanguageBackbone",
    "ParallelClassBert",
    "PromptTokenizer",
    "PromptTooLongError",
    "TextFeatureCache",
    "TextFeatures",
    "TokenizedPrompts",
    "build_language_backbone",
    "build_tokenizer",
]
