"""Registry of language backbones."""

from typing import Any

from fvcore.common.registry import Registry
from torch import nn

from ...language.tokenized import Tokenizer
from ...language.tokenizer import PromptTokenizer

__all__ = ["LANGUAGE_BACKBONE_REGISTRY", "build_language_backbone", "build_tokenizer"]

LANGUAGE_BACKBONE_REGISTRY = Registry("LANGUAGE_BACKBONE")
LANGUAGE_BACKBONE_REGISTRY.__doc__ = """
Language backbones: modules with `tokenizer` (a `glipv2_d2.language.Tokenizer`), `out_channels` (L),
`pretrained` (where their own weights came from, or None) and
`forward(TokenizedPrompts) -> TextFeatures`. A class whose tokenizer is of another type than
PromptTokenizer names it as `tokenizer_class`, which has `from_pretrained(model, max_tokens)`. One
that writes captions has `can_be_causal` (True), `word_embedding` (V, L) and
`read_on(ids, KeyValueCache) -> hidden`.
"""


def build_language_backbone(name: str, **options: Any) -> nn.Module:
    """The registered language backbone `name`, given `options`.

    Raises:
        KeyError: nothing of that name is registered; it lists what is.
    """
    return LANGUAGE_BACKBONE_REGISTRY.get(name)(**options)


def build_tokenizer(backbone: str, model: str, max_tokens: int) -> Tokenizer:
    """The tokenizer of a registered language backbone without its weights, for a data loader.

    Args:
        backbone, model, max_tokens: `name` and two of the `options` of
            `build_language_backbone`.

    Raises:
        KeyError: nothing of that name is registered.
        OSError: the tokenizer can neither be read nor downloaded.
    """
    kind = getattr(LANGUAGE_BACKBONE_REGISTRY.get(backbone), "tokenizer_class", PromptTokenizer)
    return kind.from_pretrained(model, max_tokens)
