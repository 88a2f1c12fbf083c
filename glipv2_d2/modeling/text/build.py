"""Registry of language backbones."""

from fvcore.common.registry import Registry
from torch import nn

__all__ = ["LANGUAGE_BACKBONE_REGISTRY", "build_language_backbone"]

LANGUAGE_BACKBONE_REGISTRY = Registry("LANGUAGE_BACKBONE")
LANGUAGE_BACKBONE_REGISTRY.__doc__ = """
Language backbones: modules with `tokenizer` (a PromptTokenizer), `out_channels` (L), `pretrained`
(where their own weights came from, or None) and `forward(TokenizedPrompts) -> TextFeatures`.
"""


def build_language_backbone(name: str, **options) -> nn.Module:
    """The registered language backbone `name`, given `options`.

    Raises:
        KeyError: nothing of that name is registered; it lists what is.
    """
    return LANGUAGE_BACKBONE_REGISTRY.get(name)(**options)
