"""Our weights under the official GLIP's names, by hand: the other way round from convert."""

import torch

BRANCHES = {"conv_high": "0", "conv_mid": "1", "conv_low": "2"}


def official_state(state, module=False):
    """A state dict of ours as microsoft/GLIP would have saved it, with what it saves besides."""
    fused = any(".fusion." in name for name in state)
    result = {}
    for name, value in state.items():
        for theirs, part in _official(name, value, fused):
            result[theirs] = part.clone()
    window = next(v for k, v in state.items() if k.endswith("relative_position_bias_table"))
    result["backbone.body.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(
        len(window), len(window), dtype=torch.int64
    )
    result["language_backbone.body.model.embeddings.position_ids"] = torch.arange(8)[None]
    result["rpn.head.cls_logits.weight"] = torch.ones(80, 4, 1, 1)
    result["rpn.head.cls_logits.bias"] = torch.ones(80)
    result["rpn.anchor_generator.cell_anchors.0"] = torch.ones(1, 4)
    return {f"module.{k}": v for k, v in result.items()} if module else result


def _official(name, value, fused):
    parts = name.split(".")
    if parts[0] == "backbone":
        return [(_backbone(parts[1:]), value)]
    if parts[0] == "language_backbone":
        return [("language_backbone.body.model." + ".".join(parts[2:]), value)]
    if parts[0] == "head":
        return _head(parts[1:], value)
    assert parts[:2] == ["neck", "blocks"], name
    block, rest = int(parts[2]), parts[3:]
    if not fused:
        return [(f"rpn.head.dyhead_tower.{block}.{_dynamic_conv(rest)}", value)]
    tower = "rpn.head.dyhead_tower.{}.".format
    if rest[0] == "fusion":
        return [(tower(3 * block) + _fusion(rest[1:]), value)]
    if rest[0] == "text_layer":
        return [(tower(3 * block + 1) + n, v) for n, v in _text_layer(rest[1:], value)]
    return [(tower(3 * block + 2) + _dynamic_conv(rest[1:]), value)]


def _backbone(parts):
    if parts[0] == "top_block":
        return ".".join(["backbone.fpn.top_blocks", *parts[1:]])
    if parts[0].startswith("fpn_"):
        kind = "inner" if "lateral" in parts[0] else "layer"
        return f"backbone.fpn.fpn_{kind}{int(parts[0][-1]) - 1}.{parts[1]}"
    parts = parts[1:]
    if parts[0] == "stages":
        return ".".join(["backbone.body.layers", *parts[1:]])
    if parts[0] == "out_norms":
        return f"backbone.body.norm{int(parts[1].removeprefix('res')) - 2}.{parts[2]}"
    return ".".join(["backbone.body", *parts])


def _head(parts, value):
    if parts[0] == "box_scales":
        return [(f"rpn.head.scales.{i}.scale", scale[None]) for i, scale in enumerate(value)]
    if parts[0] == "text_projection":
        parts = ["dot_product_projection_text", *parts[1:]]
    return [(".".join(["rpn.head", *parts]), value)]


def _fusion(parts):
    if parts[0] == "attention":
        return ".".join(["b_attn.attn", *parts[1:]])
    if parts[0].startswith("norm_"):
        return f"b_attn.layer_{parts[0]}.{parts[1]}"
    return f"b_attn.{parts[0]}"


def _text_layer(parts, value):
    names = {
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm",
        "norm2": "output.LayerNorm",
    }
    if parts[0] in names:
        return [(f"{names[parts[0]]}.{parts[1]}", value)]
    if parts[1] == "out_proj":
        return [(f"attention.output.dense.{parts[2]}", value)]
    kind = parts[1].removeprefix("in_proj_")
    thirds = zip(("query", "key", "value"), value.chunk(3))
    return [(f"attention.self.{third}.{kind}", v) for third, v in thirds]


def _dynamic_conv(parts):
    if parts[0] in BRANCHES:
        branch = f"DyConv.{BRANCHES[parts[0]]}"
        return f"{branch}.bn.{parts[2]}" if parts[1] == "norm" else f"{branch}.conv.{parts[1]}"
    if parts[0] == "relu":
        return f"relu.fc.{0 if parts[1] == 'fc1' else 2}.{parts[2]}"
    if parts[0] == "scale_attention":
        return f"AttnConv.1.{parts[1]}"
    return ".".join(parts)
