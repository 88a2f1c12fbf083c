"""Whether two sides compute the same: raw outputs of the head, and final detections."""

from contextlib import contextmanager

import torch
from detectron2.structures import Instances, pairwise_iou

from glipv2_d2.language import Prompt
from glipv2_d2.modeling.heads import GroundingOutput


@contextmanager
def recorded_heads(model):
    """A list that fills with what the model's head returns; empty for a model without one."""
    outputs: list[GroundingOutput] = []
    if not hasattr(model, "head"):
        yield outputs
        return
    handle = model.head.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def _rows(outputs: list[GroundingOutput]) -> list[tuple[torch.Tensor, ...]]:
    return [
        tuple(x.float() for x in row)
        for output in outputs
        for row in zip(output.logits, output.deltas, output.centerness)
    ]


def compare_outputs(
    ours: list[GroundingOutput],
    official: list[GroundingOutput],
    prompts: list[list[Prompt]],
    tokenizer,
) -> dict[str, float]:
    """Largest absolute differences of logits (real tokens only), deltas and centerness.

    Args:
        ours: rows are (image, prompt) pairs, all prompts of the first image first.
        official: rows are pairs too, all images of the first prompt first.
        prompts: of each image, equally many.

    Raises:
        ValueError: the numbers of rows are not those of the prompts.
    """
    images, chunks = len(prompts), len(prompts[0])
    mine, theirs = _rows(ours), _rows(official)
    if not len(mine) == len(theirs) == images * chunks:
        raise ValueError(
            f"{images} images with {chunks} prompts each, but heads gave {len(mine)} (ours) and "
            f"{len(theirs)} (official) rows"
        )
    worst = {"logits": 0.0, "deltas": 0.0, "centerness": 0.0, "largest_logit": 0.0}
    for image, asked in enumerate(prompts):
        for chunk, prompt in enumerate(asked):
            count = tokenizer.num_tokens(prompt.caption)
            a, b = mine[image * chunks + chunk], theirs[chunk * images + image]
            pairs = {
                "logits": (a[0][:, :count], b[0][:, :count]),
                "deltas": (a[1], b[1]),
                "centerness": (a[2], b[2]),
            }
            for name, (x, y) in pairs.items():
                worst[name] = max(worst[name], float((x - y).abs().max()))
            largest = float(pairs["logits"][1].abs().max())
            worst["largest_logit"] = max(worst["largest_logit"], largest)
    return worst


def detections_that_agree(
    reference: Instances, other: Instances, iou: float = 0.9, score: float = 0.01
) -> int:
    """How many detections of `reference` have a partner of their own in `other`.

    A partner has the same class, a box with an IoU above `iou` and a score within `score`.
    """
    if not len(reference) or not len(other):
        return 0
    fits = pairwise_iou(reference.pred_boxes, other.pred_boxes) > iou
    fits &= reference.pred_classes[:, None] == other.pred_classes[None]
    fits &= (reference.scores[:, None] - other.scores[None]).abs() <= score
    taken = torch.zeros(len(other), dtype=torch.bool, device=fits.device)
    count = 0
    for row in fits:
        free = (row & ~taken).nonzero().flatten()
        if len(free):
            taken[free[0]] = True
            count += 1
    return count
