"""GLIPv2-B and H start from UniCL (paper, Section 4 and Appendix E): its weights under our names.

UniCL (microsoft/UniCL) is a CLIP-like model: a Swin under `image_encoder.` and a text transformer
under `text_encoder.` (`lang_encoder.` in its descendants; `visual.` and `text.` in older
files), each followed by a projection into a common space. The two towers become the backbone and
the language backbone; everything else of a GLIP starts anew.
"""

import logging
import re
from collections.abc import Collection

import torch
from torch import nn

from ...errors import CheckpointError
from ..fit import check_fit
from ..names import plain_names
from .clip import POSITIONS, convert_unicl_text
from .registry import WEIGHT_FORMATS, WeightFormat, Weights
from .swin import ImageNetSwin

__all__ = ["Unicl"]

logger = logging.getLogger(__name__)

_IMAGE_TOWERS = ("image_encoder.", "visual.")
_TEXT_TOWERS = ("text_encoder.", "lang_encoder.", "text.")

_BACKBONE = "backbone.bottom_up."
_LANGUAGE = "language_backbone."
_OUT_NORMS = _BACKBONE + "out_norms."
_IMAGE = "(image_encoder|visual)"
_SWIN = re.compile(r"patch_embed\.|layers\.\d+\.(downsample|blocks\.\d+\.(attn|mlp|norm[12]))\.")


@WEIGHT_FORMATS.register()
class Unicl(WeightFormat):
    """A UniCL with a Swin, whose two towers training starts from.

    Where the model's language backbone is not of CLIP's kind, only the image tower is taken (as in
    Figure 9 of the paper, with BERT).
    """

    title = "UniCL"
    left_out = (
        (rf"{_IMAGE}\..*\.(relative_position_index|attn_mask)", "computed from the window size"),
        (rf"{_IMAGE}\.norm\..*", "of the pooled image; detection has a norm for each level"),
        (rf"{_IMAGE}\.head\..*", "UniCL's classifier"),
        (
            r"(image|vision|text|lang)_projection",
            "into UniCL's common space, which GLIP does not use",
        ),
        (r"logit_scale", "temperature of UniCL's contrastive loss between whole images and texts"),
    )
    parts = {"backbone.bottom_up": _IMAGE_TOWERS, "language_backbone": _TEXT_TOWERS}

    def recognizes(self, names: Collection[str]) -> bool:
        blocks = tuple(tower + "resblocks." for tower in _TEXT_TOWERS)
        text = any(name.startswith(blocks) for name in names)
        return text and any(name.startswith(_IMAGE_TOWERS) for name in names)

    def convert(self, state: Weights, module: nn.Module) -> dict[str, torch.Tensor]:
        """The towers as `backbone.bottom_up.*` and `language_backbone.*`, all that `module` needs.

        Tensors share their memory with `state`, except for the position embeddings, which are
        interpolated to the longest prompt of the module (256; UniCL's have 77).

        Raises:
            CheckpointError: an image tower other than a Swin; a name that is unknown; a tower of
                another size than the module's: it gives the model keys to set.
        """
        own = module.state_dict()
        own = dict(zip(plain_names(own), own.values()))
        positions = own.get(_LANGUAGE + POSITIONS)
        image, text = self._towers(state)
        swin = ImageNetSwin().convert(image, module)
        converted = {_BACKBONE + name: value for name, value in swin.items()}
        towers: tuple[str, ...] = (_BACKBONE,)
        if positions is not None:
            towers = (_BACKBONE, _LANGUAGE)
            language = convert_unicl_text(text, positions)
            converted.update((_LANGUAGE + n, v) for n, v in language.items())
        else:
            logger.warning(
                "UniCL's text transformer is left out: this model's language backbone is not a "
                "ClipLanguageBackbone; its image tower alone is loaded"
            )
        wanted = {
            n: v for n, v in own.items() if n.startswith(towers) and not n.startswith(_OUT_NORMS)
        }
        remedy = f"its towers fit {_settings(converted, state)}"
        check_fit(wanted, converted, source="UniCL", strict=True, remedy=remedy)
        return converted

    def _towers(self, state: Weights) -> tuple[dict, dict]:
        """The weights of the image and of the text tower, without the towers' names."""
        image, text = {}, {}
        for name, value in state.items():
            tower = name[: name.find(".") + 1]
            rest = name.removeprefix(tower)
            if self.explain_left_out(name) is not None:
                continue
            if tower in _IMAGE_TOWERS and _SWIN.match(rest):
                image[rest] = value
            elif tower in _TEXT_TOWERS:
                text[rest] = value
            else:
                raise CheckpointError(_unknown_message(name, value))
        return image, text


def _settings(converted: Weights, state_dict: Weights) -> str:
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


def _unknown_message(name: str, value: torch.Tensor) -> str:
    if name.startswith(_IMAGE_TOWERS):
        return (
            f"the image tower of this UniCL is not a Swin: '{name}' {tuple(value.shape)} has no "
            "place in one (FocalNet and ViT cannot be loaded); give a UniCL with a Swin"
        )
    return (
        f"the weight '{name}' {tuple(value.shape)} is not one of UniCL's; if the model works "
        "without it, remove it from the file's state dict and save that again"
    )
