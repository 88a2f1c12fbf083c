"""What is compared: a name for each side, and how it is called."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from glipv2_d2.compat import PRECISIONS
from glipv2_d2.modeling.text import TextFeatureCache

from .gdino import GroundingDino
from .official import OfficialArrangement
from .settings import Settings

# Name -> what it is. "new prompt": the text is encoded in every call, as for a prompt never seen.
SIDES = {
    "official": "the official arrangement, float32",
    "ours": "ours, float32, prompt seen before",
    "ours-new": "ours, float32, new prompt",
    "official-bf16": "the official arrangement, bf16 autocast",
    "ours-bf16": "ours, bf16 autocast, prompt seen before",
    "ours-fp16": "ours, fp16 autocast, prompt seen before",
    "gdino": "Grounding DINO tiny (transformers), float32",
    "gdino-bf16": "Grounding DINO tiny (transformers), bf16 autocast",
}


def precision_of(side: str) -> str:
    """The precision of a side: "float32", "bf16" or "fp16"."""
    last = side.rsplit("-", 1)[-1]
    return last if last in PRECISIONS else "float32"


class Bench:
    """One model and everything it is compared with, built when first asked for."""

    def __init__(self, settings: Settings, model: nn.Module):
        self.settings = settings
        self.model = model

    @cached_property
    def official(self) -> OfficialArrangement:
        return OfficialArrangement(self.model)

    @cached_property
    def gdino(self) -> GroundingDino:
        settings = self.settings
        gdino = GroundingDino(self.model.tokenizer, settings.seed, settings.quick)
        return gdino.to(settings.device)

    def module(self, side: str) -> nn.Module:
        """What is called: the model itself, its official arrangement, or Grounding DINO."""
        return getattr(self, side.split("-")[0].replace("ours", "model"))

    def call(self, side: str, inputs: list[dict]) -> Any:
        """One inference of a side, without gradients."""
        with torch.no_grad(), self.settings.autocast(precision_of(side)):
            if side == "ours-new":
                return self._with_empty_cache(inputs)
            return self.module(side)(inputs)

    def show_prompts(self, side: str, inputs: list[dict]) -> None:
        """Let the model see the prompts, so that a side whose prompts were seen has seen them."""
        asked = [x["prompt"] for x in inputs]
        prompts = [p for item in asked for p in (item if isinstance(item, list) else [item])]
        with torch.no_grad(), self.settings.autocast(precision_of(side)):
            tokens = self.model.tokenizer(list(dict.fromkeys(prompts))).to(self.model.device)
            self.model.text_cache.encode(tokens)

    def _with_empty_cache(self, inputs: list[dict]) -> Any:
        """In a cache of its own: what the other sides have seen before stays seen."""
        model = self.model
        kept, model.text_cache = model.text_cache, TextFeatureCache(model.language_backbone)
        try:
            return model(inputs)
        finally:
            model.text_cache = kept

    def calls(self, sides: Sequence[str], inputs: list[dict]) -> dict[str, Callable[[], Any]]:
        return {side: lambda side=side: self.call(side, inputs) for side in sides}
