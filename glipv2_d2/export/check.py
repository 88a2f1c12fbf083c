"""Compare an export with the model that it was made from."""

from typing import Any

import torch

from ..errors import ExportError
from ..language.prompt import Prompt
from ..modeling import GLIP
from ..modeling.shortlist import require_contrast
from ..modeling.text import TextFeatures
from .heads import ExportedContrast

__all__ = ["TOLERANCE", "check_export"]

TOLERANCE = 1e-3  # of logits of some units; seen: 1e-5

# Images and their sizes in strides of the backbone: none is the traced one; one image and several,
# an odd number of windows, less than one.
_CASES = ((1, 7, 10), (3, 11, 6), (1, 1, 3))
_PROMPTS = (
    Prompt.from_classes(["cat"]),
    Prompt.from_classes(["person", "traffic light", "hot dog", "cup", "red kite"]),
)


@torch.no_grad()
def check_export(model: GLIP, exported: GLIP, seed: int = 0) -> dict[str, float]:
    """Run both on random images of other sizes than the traced one and prompts of two lengths.

    Args:
        exported: an `ExportedGLIP`, or the model of weights for a fixed vocabulary.

    Returns:
        The largest absolute difference of "logits", "deltas" and "centerness", and of "masks" (as
        probabilities), "answer_logits" and "next_logits" where the model has such heads, of
        "regions" and "common_words" where it makes shortlists.

    Raises:
        ExportError: a difference above TOLERANCE.
    """
    model, exported = model.eval(), exported.eval()
    prompts = exported.vocabulary_prompts or list(_PROMPTS)
    generator = torch.Generator().manual_seed(seed)
    differences: dict[str, float] = {}
    for batch, *size in _CASES:
        asked = [prompts[i % len(prompts)] for i in range(batch)]
        tokens = model.tokenizer(asked)
        height, width = (n * exported.backbone.size_divisibility for n in size)
        images = torch.randn(batch, 3, height, width, generator=generator)
        levels = list(model.backbone(images).values())
        sizes, ours = _predict(model, levels, model.text_features(tokens))
        read = list(exported.backbone(images).values())
        text = exported.text_features(exported.tokenizer(asked))
        expected, theirs = _predict(exported, read, text)
        if expected != sizes:
            raise ExportError(
                f"the levels of a {height}x{width} image are {sizes}, the export expects "
                f"{expected}: this backbone cannot be exported"
            )
        sides = ((ours, model, levels), (theirs, exported, read))
        if getattr(exported, "caption_head", None) is not None:
            texts = tokens.input_ids[:, None, :2]  # two words that each prompt has
            for found, of_model, features in sides:
                head: Any = of_model.caption_head
                found["next_logits"] = head.next_words(of_model, features).logits(texts)
        if isinstance(getattr(exported, "contrast", None), ExportedContrast):
            for found, of_model, features in sides:
                space = require_contrast(of_model)
                found["regions"] = space.embed_regions(features)
                hidden = of_model.text_features(of_model.tokenizer(asked)).hidden
                real = tokens.mask[..., None]
                found["common_words"] = space.embed_words(hidden).masked_fill(~real, 0)
        for name, values in ours.items():
            difference = (values - theirs[name]).abs().max().item()
            differences[name] = max(differences.get(name, 0.0), difference)
    if not all(value <= TOLERANCE for value in differences.values()):
        shown = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        raise ExportError(f"the export differs from the model by more than {TOLERANCE}: {shown}")
    return differences


def _predict(
    model: GLIP, features: list[torch.Tensor], text: TextFeatures
) -> tuple[list[tuple[int, int]], dict[str, torch.Tensor]]:
    """The sizes of the levels, and what is compared."""
    levels, words = model.neck(features, text)
    output = model.head(levels, words)
    found = {
        "logits": output.logits.masked_fill(~text.mask[:, None], 0),  # padding has no meaning
        "deltas": output.deltas,
        "centerness": output.centerness,
    }
    answers, masks = (getattr(model, name, None) for name in ("vqa_head", "mask_head"))
    if answers is not None:
        found["answer_logits"] = answers.logits(words, text.mask)
    if masks is not None:
        height, width = (size * model.anchor_generator.strides[0] for size in output.level_sizes[0])
        # All of the image, a corner and what is near to a point, which are of different levels.
        shares = torch.tensor([[0, 0, 1, 1], [0.5, 0.5, 1, 1], [0.4, 0.3, 0.41, 0.32]])
        boxes = [shares * shares.new_tensor([width, height, width, height])] * len(words)
        tokens = [real.expand(len(shares), -1) for real in text.mask]
        found["masks"] = torch.cat(masks.refine(levels, words, boxes, tokens))
    return output.level_sizes, found
