"""The official GLIP's weights under this project's names: one pure function, driven by tables.

The official model (microsoft/GLIP) keeps everything under `backbone.body` (Swin),
`backbone.fpn`, `language_backbone.body.model` (BERT) and `rpn.head`. Its tower is one flat
list, `rpn.head.dyhead_tower.N`: with deep fusion (GLIP-T (B), (C), T and L) N = 3k is the fusion
of block k, 3k + 1 its BERT layer and 3k + 2 its dynamic convolution; without (GLIP-T (A)) every
entry is a dynamic convolution. Which of the two a file has is told from its keys.
"""

import re
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from ...errors import CheckpointError
from ..names import plain_names
from .registry import WEIGHT_FORMATS, WeightFormat, Weights

__all__ = ["OfficialGlip", "convert_official_glip"]

_TOWER = "rpn.head.dyhead_tower."
_OFFSETS = "prompt_embeddings.default"

# Where a key begins in the official model -> in ours. {N+1} counts one on from what N matched.
_PREFIXES = (
    (r"backbone\.body\.patch_embed\.", "backbone.bottom_up.patch_embed."),
    (r"backbone\.body\.layers\.", "backbone.bottom_up.stages."),
    (r"backbone\.body\.norm(?P<N>\d+)\.", "backbone.bottom_up.out_norms.res{N+2}."),
    (r"backbone\.fpn\.fpn_inner(?P<N>\d+)\.", "backbone.fpn_lateral{N+1}."),
    (r"backbone\.fpn\.fpn_layer(?P<N>\d+)\.", "backbone.fpn_output{N+1}."),
    (r"backbone\.fpn\.top_blocks\.", "backbone.top_block."),
    (r"language_backbone\.body\.model\.", "language_backbone.body."),
    (r"rpn\.head\.dot_product_projection_text\.", "head.text_projection."),
    (r"rpn\.head\.(?=(bbox_pred|centerness)\.)", "head."),
    (r"rpn\.head\.(?=(log_scale|bias_lang|bias0)$)", "head."),
    (r"rpn\.tunable_linear\.weight$", _OFFSETS),
)

# Inside one entry of the tower: its beginning there -> in our block.
_FUSION = (
    ("b_attn.attn.", "fusion.attention."),
    ("b_attn.layer_norm_", "fusion.norm_"),
    ("b_attn.gamma_", "fusion.gamma_"),
)
_TEXT_LAYER = (
    ("attention.output.dense.", "text_layer.self_attn.out_proj."),
    ("attention.output.LayerNorm.", "text_layer.norm1."),
    ("intermediate.dense.", "text_layer.linear1."),
    ("output.dense.", "text_layer.linear2."),
    ("output.LayerNorm.", "text_layer.norm2."),
)
_DYNAMIC_CONV = (
    ("DyConv.0.conv.", "conv_high."),
    ("DyConv.0.bn.", "conv_high.norm."),
    ("DyConv.1.conv.", "conv_mid."),
    ("DyConv.1.bn.", "conv_mid.norm."),
    ("DyConv.2.conv.", "conv_low."),
    ("DyConv.2.bn.", "conv_low.norm."),
    ("AttnConv.1.", "scale_attention."),
    ("relu.fc.0.", "relu.fc1."),
    ("relu.fc.2.", "relu.fc2."),
    ("offset.", "offset."),
)

# Several official tensors become one of ours, joined along the first dimension, in this order.
_QKV = re.compile(r"attention\.self\.(?P<part>query|key|value)\.(?P<kind>weight|bias)")
_QKV_PARTS = ("query", "key", "value")
_SCALE = re.compile(r"rpn\.head\.scales\.(?P<level>\d+)\.scale")


@WEIGHT_FORMATS.register()
class OfficialGlip(WeightFormat):
    """The official GLIP-T (A), (B), (C), T and L."""

    title = "official GLIP"
    whole = True
    left_out = (
        (r"backbone\.body\..*\.relative_position_index", "computed from the window size"),
        (r"language_backbone\..*\.embeddings\.position_ids", "counts 0, 1, 2, ...: no weight"),
        (r"language_backbone\..*\.pooler\..*", "BERT's sentence vector, which GLIP does not use"),
        (r"rpn\.anchor_generator\.cell_anchors\.\d+", "computed from the config"),
        (r"rpn\.head\.cls_logits\.(weight|bias)", "class logits that GLIP's scores do not use"),
        (r"rpn\.head\.mlm_head\..*", "masked language modeling, a loss of pre-training only"),
        (r"rpn\.resizer\..*", "projection for a contrastive loss that GLIP does not use"),
        (
            r"rpn\.loss_evaluator\.shallow_.*",
            "shallow contrastive projections, a loss of pre-training only",
        ),
    )
    parts = {
        "backbone.bottom_up": ("backbone.body.",),
        "language_backbone": ("language_backbone.",),
    }

    def recognizes(self, names: Collection[str]) -> bool:
        return any(name.startswith(_TOWER) for name in names)

    def convert(self, state: Weights, module: nn.Module) -> dict[str, torch.Tensor]:
        return convert_official_glip(state)


def convert_official_glip(state_dict: Weights) -> dict[str, torch.Tensor]:
    """The weights of an official GLIP-T (A), (B), (C), T or L as a state dict of our `GLIP`.

    Pure: the input stays as it is. Values are not changed; tensors that need no joining share their
    memory with the input.

    Args:
        state_dict: official name -> tensor (the `"model"` entry of a released file).

    Returns:
        Our name -> tensor. What is left out is what `OfficialGlip.explain_left_out` explains.

    Raises:
        CheckpointError: not an official GLIP; a name that is neither mapped nor explained; a part
            of a joined tensor is missing.
    """
    state = dict(zip(plain_names(state_dict), state_dict.values()))
    known = OfficialGlip()
    if not known.recognizes(state):
        raise CheckpointError(
            f"not the weights of an official GLIP: none of their {len(state)} names begins with "
            f"'{_TOWER}'; give the 'model' entry of a released file"
        )
    fused = any(name.startswith(_TOWER) and ".b_attn." in name for name in state)
    converted: dict[str, torch.Tensor] = {}
    joined: dict[str, dict[int, torch.Tensor]] = {}
    for name, value in state.items():
        if known.explain_left_out(name) is not None:
            continue
        target, part = _place(name, fused)
        if target is None:
            raise CheckpointError(_unknown_message(name, value))
        if part is None:
            converted[target] = value
        else:
            joined.setdefault(target, {})[part] = value
    converted.update((name, _join(name, parts)) for name, parts in joined.items())
    if _OFFSETS in converted and not converted[_OFFSETS].any():
        del converted[_OFFSETS]  # as it was initialized: the model was not prompt-tuned
    return converted


def _place(name: str, fused: bool) -> tuple[str | None, int | None]:
    """Our name for an official one, and which part of that tensor it is (None: all of it)."""
    scale = _SCALE.fullmatch(name)
    if scale:
        return "head.box_scales", int(scale["level"])
    if name.startswith(_TOWER):
        return _place_in_tower(name.removeprefix(_TOWER), fused)
    for pattern, ours in _PREFIXES:
        found = re.match(pattern, name)
        if found:
            return _counted(ours, found) + name[found.end() :], None
    return None, None


def _place_in_tower(entry: str, fused: bool) -> tuple[str | None, int | None]:
    number, _, rest = entry.partition(".")
    if not number.isdecimal():
        return None, None
    block, role = divmod(int(number), 3) if fused else (int(number), None)
    target = f"neck.blocks.{block}."
    if role is None:
        return _renamed(rest, _DYNAMIC_CONV, target), None
    if role == 2:
        return _renamed(rest, _DYNAMIC_CONV, target + "dynamic_conv."), None
    if role == 0:
        return _renamed(rest, _FUSION, target), None
    qkv = _QKV.fullmatch(rest)
    if qkv:
        return f"{target}text_layer.self_attn.in_proj_{qkv['kind']}", _QKV_PARTS.index(qkv["part"])
    return _renamed(rest, _TEXT_LAYER, target), None


def _renamed(name: str, table: Iterable[tuple[str, str]], target: str) -> str | None:
    for theirs, ours in table:
        if name.startswith(theirs):
            return target + ours + name.removeprefix(theirs)
    return None


def _counted(target: str, found: re.Match) -> str:
    """Fill in `{N+1}`, the number that a name's N becomes."""
    return re.sub(r"\{N\+(\d)\}", lambda step: str(int(found["N"]) + int(step[1])), target)


def _join(name: str, parts: Mapping[int, torch.Tensor]) -> torch.Tensor:
    count = max(max(parts) + 1, 3 if "in_proj" in name else 1)
    missing = [_part_name(name, part) for part in range(count) if part not in parts]
    if missing:
        raise CheckpointError(
            f"the official weights are incomplete: {name} is joined from {count} tensors, and "
            f"{', '.join(missing)} is not among them; fetch or save the file again"
        )
    return torch.cat([parts[part] for part in range(count)])


def _part_name(name: str, part: int) -> str:
    return f"the {_QKV_PARTS[part]}" if "in_proj" in name else f"rpn.head.scales.{part}.scale"


def _unknown_message(name: str, value: torch.Tensor) -> str:
    return (
        f"the official weight '{name}' {tuple(value.shape)} has no place in this project's GLIP: "
        "the file is of a variant other than GLIP-T (A), (B), (C), T and L; if the model works "
        "without it, remove it from the file's state dict and save that again"
    )
