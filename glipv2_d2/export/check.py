"""Compare an export with the model that it was made from."""

import torch

from ..errors import ExportError
from ..language.prompt import Prompt
from ..modeling import GLIP
from .graphs import IMAGE_OUTPUTS
from .runtime import ExportedGLIP

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
def check_export(model: GLIP, exported: ExportedGLIP, seed: int = 0) -> dict[str, float]:
    """Run both on random images of other sizes than the traced one and prompts of two lengths.

    Returns:
        The largest absolute difference of "logits", "deltas" and "centerness".

    Raises:
        ExportError: a difference above TOLERANCE.
    """
    model = model.eval()
    prompts = exported.vocabulary_prompts or list(_PROMPTS)
    generator = torch.Generator().manual_seed(seed)
    differences = dict.fromkeys(IMAGE_OUTPUTS, 0.0)
    for batch, *size in _CASES:
        asked = [prompts[i % len(prompts)] for i in range(batch)]
        tokens = model.tokenizer(asked)
        height, width = (n * exported.backbone.size_divisibility for n in size)
        images = torch.randn(batch, 3, height, width, generator=generator)
        levels = list(model.backbone(images).values())
        ours = model.ground(levels, model.language_backbone(tokens))
        theirs = exported.ground([images], exported.text_cache.encode(tokens))
        if theirs.level_sizes != ours.level_sizes:
            raise ExportError(
                f"the levels of a {height}x{width} image are {ours.level_sizes}, the export "
                f"expects {theirs.level_sizes}: this backbone cannot be exported"
            )
        for name in IMAGE_OUTPUTS:
            difference = (getattr(ours, name) - getattr(theirs, name)).abs()
            if name == "logits":  # those of padded tokens have no meaning
                difference = difference.masked_fill(~tokens.mask[:, None], 0)
            differences[name] = max(differences[name], difference.max().item())
    if not all(value <= TOLERANCE for value in differences.values()):
        found = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
        raise ExportError(f"the export differs from the model by more than {TOLERANCE}: {found}")
    return differences
