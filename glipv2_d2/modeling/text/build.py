"""Registry of language backbones."""

from fvcore.common.registry import Registry

__all__ = ["LANGUAGE_BACKBONE_REGISTRY"]

LANGUAGE_BACKBONE_REGISTRY = Registry("LANGUAGE_BACKBONE")
LANGUAGE_BACKBONE_REGISTRY.__doc__ = """
Language backbones: modules with `tokenizer` (a PromptTokenizer), `out_channels` (L), `pretrained`
(where their own weights came from, or None) and `forward(TokenizedPrompts) -> TextFeatures`.
"""
