"""CLIP's two towers in the layouts they are shared in; UniCL's text transformer is like one."""

import re
from collections.abc import Collection

import torch
import torch.nn.functional as F
from timm.models import byobnet, vision_transformer
from torch import nn

from ...errors import CheckpointError
from .registry import WEIGHT_FORMATS, WeightFormat, Weights

__all__ = ["POSITIONS", "ClipImageTower", "ClipTextTower", "convert_unicl_text", "resize_positions"]

POSITIONS = "positional_embedding"

_OPENAI = ("visual.conv1.weight", "visual.trunk.")  # the second is OpenCLIP's, around a timm model
# `clip.visual.state_dict()`: the tower without the rest of CLIP.
_TOWER_ALONE = ("class_embedding", "attnpool.positional_embedding")
_TIMM = ("norm_pre.weight", "stem.conv1.conv.weight")
_PATCHES = ("visual.conv1.weight", "patch_embed.proj.weight")

# Where a name begins there -> in ours; "#" is the number of the layer.
_UNICL = (
    ("token_embedding.", "token_embedding."),
    (POSITIONS, POSITIONS),
    ("resblocks.#.attn.", "layers.#.self_attn."),
    ("resblocks.#.ln_1.", "layers.#.norm1."),
    ("resblocks.#.ln_2.", "layers.#.norm2."),
    ("resblocks.#.mlp.c_fc.", "layers.#.linear1."),
    ("resblocks.#.mlp.c_proj.", "layers.#.linear2."),
    ("ln_final.", "final_norm."),
)
_TRANSFORMERS = (
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", POSITIONS),
    ("encoder.layers.#.self_attn.out_proj.", "layers.#.self_attn.out_proj."),
    ("encoder.layers.#.layer_norm1.", "layers.#.norm1."),
    ("encoder.layers.#.layer_norm2.", "layers.#.norm2."),
    ("encoder.layers.#.mlp.fc1.", "layers.#.linear1."),
    ("encoder.layers.#.mlp.fc2.", "layers.#.linear2."),
    ("final_layer_norm.", "final_norm."),
)
_QUERY = re.compile(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)")
_KEY_OR_VALUE = re.compile(r"encoder\.layers\.\d+\.self_attn\.[kv]_proj\.(weight|bias)")


@WEIGHT_FORMATS.register()
class ClipImageTower(WeightFormat):
    """A CLIP of OpenAI's or OpenCLIP's, with or without the text side, or its tower in timm.

    For timm's towers (clip_visual.py has them as `trunk`); the position embeddings of a vision
    transformer are interpolated to the tower's own grid.
    """

    title = "CLIP"
    left_out = (
        (r"(head|fc_norm)\..*", "the pooling and the projection into CLIP's common space"),
        (r".*\.num_batches_tracked", "a counter of training"),
    )

    def recognizes(self, names: Collection[str]) -> bool:
        signs = (*_TOWER_ALONE, *_TIMM)
        return any(name in signs or name.startswith(_OPENAI) for name in names)

    def convert(self, state: Weights, module: nn.Module) -> dict[str, torch.Tensor]:
        converted = dict(state)
        if any(name in converted for name in _TOWER_ALONE):
            converted = {f"visual.{name}": value for name, value in converted.items()}
        if isinstance(module, vision_transformer.VisionTransformer):
            patches = next((v for n, v in converted.items() if n.endswith(_PATCHES)), None)
            converted = vision_transformer.checkpoint_filter_fn(converted, module)
            if patches is not None:
                # timm resizes patches of another side; those of another tower are to be an error.
                converted["patch_embed.proj.weight"] = patches
        elif isinstance(module, byobnet.ByobNet):
            converted = byobnet.checkpoint_filter_fn(converted, module)
        return {n: v for n, v in converted.items() if self.explain_left_out(n) is None}


@WEIGHT_FORMATS.register()
class ClipTextTower(WeightFormat):
    """transformers' `CLIPTextModel`, for a ClipLanguageBackbone."""

    title = "CLIP's text model"
    left_out = ((r"embeddings\.position_ids", "counts 0, 1, 2, ...: no weight"),)

    def recognizes(self, names: Collection[str]) -> bool:
        token_embedding = "embeddings.token_embedding.weight"
        return token_embedding in names or f"text_model.{token_embedding}" in names

    def convert(self, state: Weights, module: nn.Module) -> dict[str, torch.Tensor]:
        state = {name.removeprefix("text_model."): value for name, value in state.items()}
        converted = {}
        for name, value in state.items():
            if _KEY_OR_VALUE.fullmatch(name) or self.explain_left_out(name) is not None:
                continue
            query = _QUERY.fullmatch(name)
            if query:
                parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                target = f"layers.{query[1]}.self_attn.in_proj_{query[2]}"
                converted[target] = torch.cat(parts)
            else:
                converted[_place(name, _TRANSFORMERS)] = value
        return _with_positions(converted, module.state_dict().get(POSITIONS))


def convert_unicl_text(state: Weights, positions: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The text transformer of UniCL, or of the official GLIP's CLIPTransformer, as ours.

    Args:
        state: its names, from `token_embedding.weight` on -> tensor.
        positions: (length, L) of ours, whose number of positions theirs get; None: as they are.

    Raises:
        CheckpointError: a name that has no place.
    """
    return _with_positions({_place(n, _UNICL): v for n, v in state.items()}, positions)


def resize_positions(positions: torch.Tensor, length: int) -> torch.Tensor:
    """Position embeddings (P, L) for another longest prompt: (length, L).

    More positions are interpolated linearly (77 to 256 in GLIPv2-B, as in the official code);
    of fewer, the first ones are taken as they are.
    """
    if length <= len(positions):
        return positions[:length]
    channels_first = positions.float().T[None]
    resized = F.interpolate(channels_first, size=length, mode="linear", align_corners=False)
    return resized[0].T.to(positions.dtype).contiguous()


def _with_positions(
    converted: dict[str, torch.Tensor], own: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    if own is not None and POSITIONS in converted:
        converted[POSITIONS] = resize_positions(converted[POSITIONS], len(own))
    return converted


def _place(name: str, table: tuple[tuple[str, str], ...]) -> str:
    number = re.search(r"\.(\d+)\.", name)
    general = re.sub(r"\.\d+\.", ".#.", name, count=1)
    for theirs, ours in table:
        if general.startswith(theirs):
            result = ours + general.removeprefix(theirs)
            return result.replace("#", number[1]) if number else result
    raise CheckpointError(
        f"the text weight '{name}' has no place in a text transformer of CLIP's kind "
        "(ClipLanguageBackbone): give the weights of one"
    )
