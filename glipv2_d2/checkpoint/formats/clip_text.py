"""Text transformers of CLIP's kind under the names of ClipLanguageBackbone: pure functions."""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from ...errors import CheckpointError

__all__ = ["convert_transformers_text", "convert_unicl_text", "resize_positions"]

POSITIONS = "positional_embedding"

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


def convert_unicl_text(
    state: Mapping[str, torch.Tensor], num_positions: int
) -> dict[str, torch.Tensor]:
    """The text transformer of UniCL, or of the official GLIP's CLIPTransformer, as ours.

    Args:
        state: its names, from `token_embedding.weight` on -> tensor.
        num_positions: see `resize_positions`.

    Raises:
        CheckpointError: a name that has no place.
    """
    return _with_positions({_place(n, _UNICL): v for n, v in state.items()}, num_positions)


def convert_transformers_text(
    state: Mapping[str, torch.Tensor], num_positions: int
) -> dict[str, torch.Tensor]:
    """The weights of transformers' `CLIPTextModel` as ours.

    Args, errors: as `convert_unicl_text`.
    """
    state = {name.removeprefix("text_model."): value for name, value in state.items()}
    converted = {}
    for name, value in state.items():
        if _KEY_OR_VALUE.fullmatch(name) or name == "embeddings.position_ids":
            continue
        query = _QUERY.fullmatch(name)
        if query:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            target = f"layers.{query[1]}.self_attn.in_proj_{query[2]}"
            converted[target] = torch.cat(parts)
        else:
            converted[_place(name, _TRANSFORMERS)] = value
    return _with_positions(converted, num_positions)


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
    converted: dict[str, torch.Tensor], num_positions: int
) -> dict[str, torch.Tensor]:
    positions = converted.get(POSITIONS)
    if positions is not None:
        converted[POSITIONS] = resize_positions(positions, num_positions)
    return converted


def _place(name: str, table: tuple[tuple[str, str], ...]) -> str:
    number = re.search(r"\.(\d+)\.", name)
    general = re.sub(r"\.\d+\.", ".#.", name, count=1)
    for theirs, ours in table:
        if general.startswith(theirs):
            result = ours + general.removeprefix(theirs)
            return result.replace("#", number[1]) if number else result
    raise CheckpointError(
        f"The text weight '{name}' has no place in a text transformer of CLIP's kind "
        "(ClipLanguageBackbone): give the weights of one."
    )
