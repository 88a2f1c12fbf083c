"""Measures whether a box finds its phrase among all phrases of a batch (GLIPv2, Section 3.2).

What the inter-image contrastive loss is to teach: a region finds its phrase among those of other
images, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import DataError
from ..language.prompt import Prompt
from ..language.tokenized import TokenizedPrompts
from ..modeling.heads import TrainingBatch
from ..modeling.text import TextFeatures

__all__ = ["averaging", "box_positions", "phrase_retrieval", "right_phrases"]


@torch.no_grad()
def phrase_retrieval(model, batches: Iterable[list[dict]]) -> dict[str, float]:
    """Compute how often the phrase of highest score is the right one, over the annotated boxes.

    All phrases of all prompts of a batch are ranked; one with the name of the box's own phrase is
    right, whatever prompt it is from. A box stands for the positions that the matcher gives it (a
    box without any is left out and counted), a phrase for its words. The score is, as far as the
    model has it,

    - `before_fusion`: the cosine of the contrastive head's embeddings, mean over positions and
      words: B images and B prompts are encoded once each;
    - `fused`: the grounding head's score for each image with each of the B prompts, as a GLIP is
      asked for a vocabulary in several prompts: B * B passes through the tower. Any GLIP has it:
      what a model without contrastive head is measured by.

    Args:
        model: a GLIP or GLIPv2 in evaluation mode.
        batches: inputs as in training.

    Returns:
        `boxes`, `boxes_without_positions`, `phrases` (mean per batch), `chance` (top-1 of a
        random ranking) and the top-1 accuracies named above, 0 to 1.

    Raises:
        DataError: no box in any batch.
    """
    totals: Counter = Counter()
    for inputs in batches:
        totals.update(_counts(model, inputs))
    boxes = totals.pop("boxes", 0)
    if not boxes:
        raise DataError("there is no box to find a phrase for: the images have no annotations")
    return {
        "boxes": boxes,
        "boxes_without_positions": totals.pop("boxes_without_positions"),
        "phrases": totals.pop("phrases") / totals.pop("batches"),
        **{name: total / boxes for name, total in totals.items()},
    }


def _counts(model, inputs: list[dict]) -> dict[str, float]:
    """What `phrase_retrieval` adds up, for one batch; scores: the boxes that are found by each."""
    prompts = [x["prompt"] for x in inputs]
    boxes = [x["instances"].gt_classes.tolist() for x in inputs]
    tokens = model.tokenizer(prompts).to(model.device)
    text = model.language_backbone(tokens)
    features = model.visual_features(model.preprocess_image(inputs))
    targets = model.targets(TrainingBatch.of(inputs, prompts, tokens))
    matches = model.losses.match(model.anchors(features), targets)
    positions = box_positions(matches, [len(phrases) for phrases in boxes])
    scores = {"fused": _fused_scores(model, features, text, tokens, positions)}
    if getattr(model, "contrast", None) is not None:
        regions = averaging(positions) @ model.contrast.embed_regions(features).flatten(0, 1)
        words = model.contrast.embed_words(text.hidden)
        phrases = [averaging(m) @ w for m, w in zip(tokens.positive_maps, words)]
        scores["before_fusion"] = regions @ torch.cat(phrases).T
    found = positions.any(dim=1)
    right = right_phrases(prompts, boxes).to(model.device)[found]
    top1 = {
        name: int(right.gather(1, ranked[found].argmax(dim=1, keepdim=True)).sum())
        for name, ranked in scores.items()
    }
    return {
        "batches": 1,
        "boxes": len(right),
        "boxes_without_positions": len(found) - len(right),
        "phrases": right.shape[1],
        "chance": float(right.float().mean(dim=1).sum()),
        **top1,
    }


def _fused_scores(
    model, features: list[Tensor], text: TextFeatures, tokens: TokenizedPrompts, positions: Tensor
) -> Tensor:
    """(G, K): the mean over positions and words, as the postprocessor scores phrases."""
    images = len(features[0])
    columns = []
    for i, words in enumerate(tokens.positive_maps):
        output = model.ground(features, text[[i] * images])
        per_box = averaging(positions) @ output.logits.sigmoid().flatten(0, 1)
        columns.append(per_box @ averaging(words).T)
    return torch.cat(columns, dim=1)


def box_positions(matches: Tensor, counts: Sequence[int]) -> Tensor:
    """Find the positions that the matcher gives to each box.

    Args:
        matches: (B, N) int64, the box of each position in its image, -1 for none.
        counts: boxes of each image.

    Returns:
        (G, B * N) bool for the G boxes of all images.
    """
    images = torch.arange(len(matches)).repeat_interleave(torch.tensor(counts))[:, None]
    boxes = torch.cat([torch.arange(count) for count in counts])[:, None].to(matches)
    own = (images == torch.arange(len(matches))).to(matches.device)
    return (own[..., None] & (matches == boxes[..., None])).flatten(1)


def averaging(members: Tensor) -> Tensor:
    """Turn (n, m) bool into the float matrix whose product with m rows averages over the members.

    A row without members is 0.
    """
    weights = members.float()
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)


def right_phrases(prompts: Sequence[Prompt], boxes: Sequence[Sequence[int]]) -> Tensor:
    """Tell which phrases of all prompts have the name of the box's own: (G, K) bool.

    Args:
        prompts: B, with K phrases in all.
        boxes: per image the phrase of each box in its own prompt, G in all.
    """
    names = [_plain(name) for prompt in prompts for name in prompt.names]
    own = [_plain(p.names[k]) for p, phrases in zip(prompts, boxes) for k in phrases]
    rows = [[name == mine for name in names] for mine in own]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(own), len(names))


def _plain(phrase: str) -> str:
    return " ".join(phrase.lower().split())
