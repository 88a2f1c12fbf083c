"""Tiny models of CLIP's kind with CLIP's own vocabulary: an encoder, a GLIP with it, a UniCL."""

import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from torch import nn

from glipv2_d2.modeling.text import ClipLanguageBackbone, build_language_backbone
from tests.support.tiny import tiny_config

WIDTH, HEADS, LAYERS, POSITIONS, VOCABULARY = 16, 2, 2, 10, 49408
DIMENSIONS = {"width": WIDTH, "num_heads": HEADS, "num_layers": LAYERS, "max_tokens": 24}


def tiny_clip(seed=0, **options) -> ClipLanguageBackbone:
    """Two layers, 16 wide, random weights of a size that lets each of them matter."""
    torch.manual_seed(seed)
    model = ClipLanguageBackbone(**{**DIMENSIONS, "pretrained": False, **options})
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def clip_config():
    """LazyConfig of the tiny model with a text transformer of CLIP's kind."""
    model = tiny_config()
    model.language_backbone = L(build_language_backbone)(
        name="ClipLanguageBackbone",
        model="openai/clip-vit-base-patch32",
        pretrained=False,
        **DIMENSIONS,
        frozen=False,
    )
    model.neck.text_channels = WIDTH
    model.neck.text_norm = "pre"
    return model


def tiny_clip_glip(seed=0, **bottom_up):
    config = clip_config()
    config.backbone.bottom_up.update(bottom_up)
    torch.manual_seed(seed)
    return instantiate(config)


class Block(nn.Module):
    """As in UniCL's model/text_encoder/transformer.py, written anew."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.ln_1 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.mlp = nn.Module()
        self.mlp.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.mlp.c_proj = nn.Linear(4 * WIDTH, WIDTH)
        self.ln_2 = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask)[0]
        y = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(y * torch.sigmoid(1.702 * y))


class TextTransformer(nn.Module):
    def __init__(self, positions=POSITIONS):
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positional_embedding = nn.Parameter(torch.empty(positions, WIDTH))
        self.resblocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_final = nn.LayerNorm(WIDTH, eps=1e-12)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, ids):
        """(B, T) -> (B, T, L): causal, as CLIP."""
        mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)
        x = (self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]).transpose(0, 1)
        for block in self.resblocks:
            x = block(x, mask)
        return self.ln_final(x.transpose(0, 1))


def unicl_state(bottom_up, text, image_tower="image_encoder.", text_tower="text_encoder."):
    """What a released UniCL holds, of the tensors of a SwinBackbone and a TextTransformer."""
    state = {}
    for name, value in bottom_up.state_dict().items():
        if not name.startswith("out_norms."):
            state[image_tower + name.replace("stages.", "layers.")] = value
    for name in [n for n in state if n.endswith("relative_position_bias_table")]:
        block = name.removesuffix("attn.relative_position_bias_table")
        state[block + "attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
        state[block + "attn_mask"] = torch.zeros(4, 16, 16)
    state[image_tower + "norm.weight"] = torch.ones(128)
    state[image_tower + "norm.bias"] = torch.zeros(128)
    state.update((text_tower + n, v) for n, v in text.state_dict().items())
    state["image_projection"] = torch.ones(128, 8)
    state["text_projection"] = torch.ones(WIDTH, 8)
    state["logit_scale"] = torch.ones([])
    return state
