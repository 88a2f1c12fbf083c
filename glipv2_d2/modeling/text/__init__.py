"""Language backbones and the features that they hand on."""

from .bert import BertLanguageBackbone
from .build import (
    LANGUAGE_BACKBONE_REGISTRY,
    build_language_backbone,
    build_tokenizer,
)
from .cache import ParameterCache, TextFeatureCache, precision_and_device
from .clip_text import ClipLanguageBackbone
from .features import TextFeatures
from .frozen_vocabulary import FrozenVocabulary
from .parallel_classes import ParallelClassBert
from .prompt_embeddings import PromptEmbeddings

__all__ = [
    "LANGUAGE_BACKBONE_REGISTRY",
    "BertLanguageBackbone",
    "ClipLanguageBackbone",
    "FrozenVocabulary",
    "ParallelClassBert",
    "ParameterCache",
    "PromptEmbeddings",
    "TextFeatureCache",
    "TextFeatures",
    "build_language_backbone",
    "build_tokenizer",
    "precision_and_device",
]
