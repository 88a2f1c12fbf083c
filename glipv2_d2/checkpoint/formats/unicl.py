"""GLIPv2-B and H start from UniCL (paper, Section 4 and Appendix E): its weights under our names.

UniCL (microsoft/UniCL) is a CLIP-like model: a Swin under `image_encoder.` and a text transformer
under `text_encoder.` (`lang_encoder.` in its descendants; `visual.` and `text.` in older
files), each followed by a projection into a common space. The two towers become the backbone and
the language backbone; everything else of a GLIP starts anew.
"""

import logging
import re
from collections.abc import Iterable, Mapping

import torch

from ...errors import CheckpointError
from ..names import plain_names
from .clip_text import POSITIONS, convert_unicl_text
from .swin import convert_imagenet_swin

__all__ = [
    "IMAGE_TOWERS",
    "TEXT_TOWERS",
    "convert_unicl",
    "explain_left_out_of_unicl",
    "is_unicl",
    "unicl_for_model",
]

logger = logging.getLogger(__name__)

IMAGE_TOWERS = ("image_encoder.", "visual.")
TEXT_TOWERS = ("text_encoder.", "lang_encoder.", "text.")

_BACKBONE = "backbone.bottom_up."
_LANGUAGE = "language_backbone."
_OUT_NORMS = _BACKBONE + "out_norms."
_IMAGE = "(image_encoder|visual)"
_SWIN = re.compile(r"patch_embed\.|layers\.\d+\.(downsample|blocks\.\d+\.(attn|mlp|norm[12]))\.")

_LEFT_OUT = (
    (rf"{_IMAGE}\..*\.(relative_position_index|attn_mask)", "computed from the window size"),
    (rf"{_IMAGE}\.norm\..*", "of the pooled image; detection has a norm for each level"),
    (rf"{_IMAGE}\.head\..*", "UniCL's classifier"),
    (r"(image|vision|text|lang)_projection", "into UniCL's common space, which GLIP does not use"),
    (r"logit_scale", "temperature of UniCL's contrastive loss between whole images and texts"),
)


def is_unicl(state: Iterable[str]) -> bool:
    """Whether a state dict (or its names) is a UniCL's, in a wrapper or not."""
    names = plain_names(state)
    blocks = tuple(tower + "resblocks." for tower in TEXT_TOWERS)
    return any(n.startswith(blocks) for n in names) and any(
        n.startswith(IMAGE_TOWERS) for n in names
    )


def explain_left_out_of_unicl(name: str) -> str | None:
    """Why our model needs no weight of this name of UniCL; None if it does or is unknown."""
    (name,) = plain_names([name])
    for pattern, reason in _LEFT_OUT:
        if re.fullmatch(pattern, name):
            return reason
    return None


def convert_unicl(
    state_dict: Mapping[str, torch.Tensor], num_positions: int
) -> dict[str, torch.Tensor]:
    """The two towers of a UniCL with a Swin as a part of our model's state dict.

    Pure: the input stays as it is. Tensors share their memory with it, except for the position
    embeddings, which are interpolated.

    Args:
        state_dict: UniCL's name -> tensor (the `"model"` entry of a released file).
        num_positions: the longest prompt of our model in tokens (256; UniCL's have 77).

    Returns:
        `backbone.bottom_up.*` and `language_backbone.*` -> tensor. What is left out is what
        `explain_left_out_of_unicl` explains.

    Raises:
        CheckpointError: not a UniCL; an image tower other than a Swin; a name that is unknown.
    """
    state = dict(zip(plain_names(state_dict), state_dict.values()))
    if not is_unicl(state):
        raise CheckpointError(
            f"These are not the weights of a UniCL: among their {len(state)} names is no image "
            "tower with a text transformer. Give the 'model' entry of a released file."
        )
    image, text = {}, {}
    for name, value in state.items():
        tower = name[: name.find(".") + 1]
        rest = name.removeprefix(tower)
        if explain_left_out_of_unicl(name) is not None:
            continue
        if tower in IMAGE_TOWERS and _SWIN.match(rest):
            image[rest] = value
        elif tower in TEXT_TOWERS:
            text[rest] = value
        else:
            raise CheckpointError(_unknown_message(name, value))
    converted = {_BACKBONE + n: v for n, v in convert_imagenet_swin(image).items()}
    converted.update((_LANGUAGE + n, v) for n, v in convert_unicl_text(text, num_positions).items())
    return converted


def unicl_for_model(
    state_dict: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], *, source: str
) -> dict[str, torch.Tensor]:
    """The weights that a model takes from a UniCL, checked, with a note of what is left out.

    Where the model's language backbone is not of CLIP's kind, only the image tower is taken (as in
    Figure 9 of the paper, with BERT).

    Args:
        state_dict: UniCL's name -> tensor. own: the state dict of the model.
        source: where the weights come from, for the messages.

    Raises:
        CheckpointError: see `convert_unicl`; or a tower of another size than the model's: it
            names the first tensor that differs, both sizes, and the model keys to set.
    """
    positions = own.get(_LANGUAGE + POSITIONS)
    try:
        converted = convert_unicl(state_dict, 0 if positions is None else len(positions))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if positions is None:
        converted = {n: v for n, v in converted.items() if not n.startswith(_LANGUAGE)}
        logger.warning(
            "%s: UniCL's text transformer is left out: this model's language backbone is not a "
            "ClipLanguageBackbone. Its image tower alone is loaded.",
            source,
        )
    _refuse_other_towers(converted, own, state_dict, source)
    _log_left_out(state_dict, source)
    return converted


def _refuse_other_towers(converted, own, state_dict, source: str) -> None:
    towers = tuple({name[: name.find(".") + 1] for name in converted})
    wanted = {n for n in own if n.startswith(towers) and _belongs_to_tower(n)}
    for name in sorted(wanted.union(converted)):
        theirs = tuple(converted[name].shape) if name in converted else None
        ours = tuple(own[name].shape) if name in wanted else None
        if theirs != ours:
            raise CheckpointError(
                f"'{source}' is a UniCL of another size than the model: {name} is "
                f"{theirs or 'not there'} in the file, {ours or 'not there'} in the model. "
                f"Its towers fit {_settings(converted, state_dict)}."
            )


def _belongs_to_tower(name: str) -> bool:
    return name.startswith((_BACKBONE, _LANGUAGE)) and not name.startswith(_OUT_NORMS)


def _settings(converted: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor]) -> str:
    """The model keys that UniCL's towers ask for."""
    stages: dict[int, int] = {}
    for name in converted:
        block = re.match(re.escape(_BACKBONE) + r"stages\.(\d+)\.blocks\.(\d+)\.", name)
        if block:
            stages[int(block[1])] = max(stages.get(int(block[1]), 0), int(block[2]) + 1)
    table = _BACKBONE + "stages.{}.blocks.0.attn.relative_position_bias_table"
    heads = [converted[table.format(i)].shape[1] for i in stages if table.format(i) in converted]
    keys = {
        "backbone.bottom_up.embed_dim": len(converted[_BACKBONE + "patch_embed.proj.weight"]),
        "backbone.bottom_up.depths": [stages[i] for i in sorted(stages)],
        "backbone.bottom_up.num_heads": heads,
    }
    if heads:
        # (2 window - 1) ** 2 relative positions.
        window = (round(len(converted[table.format(0)]) ** 0.5) + 1) // 2
        keys["backbone.bottom_up.window_size"] = window
    embedding = _LANGUAGE + "token_embedding.weight"
    if embedding in converted:
        keys["language_backbone.width"] = converted[embedding].shape[1]
        layers = [re.search(r"resblocks\.(\d+)\.", name) for name in state_dict]
        keys["language_backbone.num_layers"] = 1 + max(int(x[1]) for x in layers if x)
    return ", ".join(f"model.{key}={value}".replace(" ", "") for key, value in keys.items())


def _log_left_out(state_dict: Mapping[str, torch.Tensor], source: str) -> None:
    reasons: dict[str, list[str]] = {}
    for name in state_dict:
        reason = explain_left_out_of_unicl(name)
        if reason is not None:
            reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        logger.info(
            "%s: left out (%s): %s%s",
            source, reason, ", ".join(names[:3]), f" and {len(names) - 3} more" * (len(names) > 3),
        )  # fmt: skip


def _unknown_message(name: str, value: torch.Tensor) -> str:
    if name.startswith(IMAGE_TOWERS):
        return (
            f"The image tower of this UniCL is not a Swin: '{name}' {tuple(value.shape)} has no "
            "place in one (FocalNet and ViT cannot be loaded). Give a UniCL with a Swin."
        )
    return (
        f"The weight '{name}' {tuple(value.shape)} is not one of UniCL's. If the model works "
        "without it, remove it from the file's state dict and save that again."
    )
