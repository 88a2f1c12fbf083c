"""CLIP's kind of text transformer as language backbone: pre-LayerNorm (GLIPv2-B and H)."""

import torch
from timm.layers import QuickGELU
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModel

from ...errors import ConfigError
from ...language.clip_vocabulary import CLIP_MASK_TOKEN_ID
from ...language.pretrained_names import CLIP, resolve_pretrained
from ...language.tokenized import TokenizedPrompts
from ...language.tokenizer import PromptTokenizer
from ..weights import WEIGHTS_REGISTRY
from .attention import KeyValueCache, TextLayer, visible_words
from .build import LANGUAGE_BACKBONE_REGISTRY
from .features import TextFeatures
from .pretrained import quiet_transformers, unavailable_message

__all__ = ["ClipLanguageBackbone", "pre_norm_layer"]


def pre_norm_layer(
    channels: int, num_heads: int, ffn_channels: int, layer_norm_eps: float = 1e-12
) -> TextLayer:
    """A text layer of CLIP: pre-LayerNorm self-attention and feed-forward, quick GELU, no dropout.

    Args:
        layer_norm_eps: UniCL's and the official GLIP's by default; OpenAI's CLIP has 1e-5.
    """
    layer = TextLayer(
        channels,
        num_heads,
        ffn_channels,
        dropout=0.0,
        activation=QuickGELU(),
        layer_norm_eps=layer_norm_eps,
        norm_first=True,
    )
    for linear in (layer.self_attn.out_proj, layer.linear1, layer.linear2):
        nn.init.trunc_normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
    return layer


@LANGUAGE_BACKBONE_REGISTRY.register()
class ClipLanguageBackbone(nn.Module):
    """The text transformer of CLIP and UniCL, made bidirectional (paper, Section 4, Appendix E).

    Every word sees every other, as in the official code, except in causal prompts, as CLIP itself
    has it.

    Args:
        model: name on the hub, or local folder, of a CLIP. Its tokenizer is used; without a hub it
            comes from the package open_clip_torch.
        pretrained: load the weights of that CLIP's text model, too; None leaves them random, for
            models whose checkpoint holds them (`train.init_checkpoint` with a UniCL: see
            checkpoint/formats/unicl.py).
        width: L. num_heads, num_layers: of the transformer; its feed-forward is 4 L wide.
        max_tokens: longest prompt, start and end token included. CLIP's 77 position embeddings are
            interpolated to so many when they are loaded.
        layer_norm_eps: 1e-12 in UniCL, 1e-5 in OpenAI's CLIP.
        mask_token_id: what stands for a masked word (see `CLIP_MASK_TOKEN_ID`); None: nothing
            does, or the tokenizer's own mask token.
        use_checkpoint: recompute the layers' activations in the backward pass to save memory.
        frozen: no gradients, and evaluation mode always.

    Raises:
        ConfigError: the model is neither on disk nor to be fetched; it says what can be done.
        CheckpointError: pretrained weights of another size than the arguments say.
    """

    can_be_causal = True

    def __init__(
        self,
        *,
        model: str = CLIP[0],
        pretrained: bool | None = True,
        width: int = 512,
        num_heads: int = 8,
        num_layers: int = 12,
        max_tokens: int = 256,
        layer_norm_eps: float = 1e-12,
        mask_token_id: int | None = CLIP_MASK_TOKEN_ID,
        use_checkpoint: bool = False,
        frozen: bool = False,
    ):
        super().__init__()
        path = resolve_pretrained(model)
        try:
            self.tokenizer = PromptTokenizer.from_pretrained(path, max_tokens, mask_token_id)
        except OSError as error:  # of transformers: not on disk, not to be fetched
            raise ConfigError(unavailable_message(model, False, error)) from error
        self.token_embedding = nn.Embedding(len(self.tokenizer.tokenizer), width)
        self.positional_embedding = nn.Parameter(torch.empty(max_tokens, width))
        self.layers = nn.ModuleList(
            pre_norm_layer(width, num_heads, 4 * width, layer_norm_eps) for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(width, eps=layer_norm_eps)
        nn.init.trunc_normal_(self.token_embedding.weight, std=0.02)
        nn.init.trunc_normal_(self.positional_embedding, std=0.02)
        self.pretrained: str | None = model if pretrained else None
        if pretrained:
            self._load_clip(model)
        self.use_checkpoint = use_checkpoint
        self.frozen = frozen
        if frozen:
            self.requires_grad_(False)
            self.eval()

    def _load_clip(self, model: str) -> None:
        try:
            with quiet_transformers():
                theirs = CLIPTextModel.from_pretrained(resolve_pretrained(model, weights=True))
        except OSError as error:
            raise ConfigError(unavailable_message(model, True, error)) from error
        size = theirs.config
        WEIGHTS_REGISTRY.get("load_pretrained")(
            self,
            theirs.state_dict(),
            name=model,
            remedy=f"set model.language_backbone.width={size.hidden_size}, "
            f"num_heads={size.num_attention_heads} and num_layers={size.num_hidden_layers}, or "
            "name another CLIP",
        )

    @property
    def out_channels(self) -> int:
        """L."""
        return self.token_embedding.embedding_dim

    @property
    def word_embedding(self) -> torch.Tensor:
        """(V, L), one row for each token."""
        return self.token_embedding.weight

    def train(self, mode: bool = True) -> "ClipLanguageBackbone":
        return super().train(mode and not self.frozen)

    def forward(self, tokens: TokenizedPrompts) -> TextFeatures:
        """Tokens (B, T) -> TextFeatures (B, T, L)."""
        hidden = self._read(tokens.input_ids, visible_words(tokens.mask, tokens.causal))
        embedded = hidden * tokens.mask[..., None].to(hidden.dtype)
        return TextFeatures(hidden, embedded, tokens.mask, tokens.causal, tokens.seen_by_image)

    def read_on(self, ids: torch.Tensor, cache: KeyValueCache) -> torch.Tensor:
        """The `hidden` (B, n, L) of n more tokens (B, n) of causal texts; see `KeyValueCache`."""
        return self._read(ids, cache.visible_to(ids), cache)

    def _read(
        self, ids: torch.Tensor, visible: torch.Tensor, cache: KeyValueCache | None = None
    ) -> torch.Tensor:
        earlier = 0 if cache is None else cache.length
        positions = self.positional_embedding[earlier : earlier + ids.shape[1]]
        hidden = self.token_embedding(ids) + positions
        for layer in self.layers:
            if self.use_checkpoint and self.training:
                hidden = checkpoint(layer, hidden, visible, cache, use_reentrant=False)
            else:
                hidden = layer(hidden, visible, cache)
        return self.final_norm(hidden)
