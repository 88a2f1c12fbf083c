"""What GroundingPredictor returns, on the CPU and in the image's own pixels."""

from typing import Any, NamedTuple

import torch
from detectron2.structures import Instances
from torchvision.ops import nms

from ..language.prompt import Prompt
from ..modeling.mask_output import paste_masks, rescale

__all__ = [
    "Answer",
    "Caption",
    "answer",
    "best_of_each_phrase",
    "caption",
    "detections",
    "keep_best_phrase",
    "presence",
]


class Answer(NamedTuple):
    """The answer to a question about an image.

    Attributes:
        answer: the best of `answers`.
        answers: the best five, each with its probability. The probabilities do not sum to 1.
        instances: the best box of each phrase of the question, and of the answer where the model
            grounds it (its phrase comes last, and its name is the answer), in the order of the
            text.
        prompt: the question; `instances.pred_classes` index its phrases.
    """

    answer: str
    answers: list[tuple[str, float]]
    instances: Instances
    prompt: Prompt


class Caption(NamedTuple):
    """A caption that was written for an image.

    Attributes:
        caption: the text.
        score: mean log-probability of its tokens.
        instances: the best box of each noun phrase of the caption, in the order of the text.
        prompt: the caption; `instances.pred_classes` index its phrases, whose spans are the colored
            words of a picture.
    """

    caption: str
    score: float
    instances: Instances
    prompt: Prompt


def detections(output: dict[str, Any], batched_input: dict[str, Any]) -> Instances:
    """Of `GLIP.outputs` for an input, whose "merge_iou" counts."""
    found = rescale(output["instances"], batched_input).to("cpu")
    if batched_input["merge_iou"] is not None:
        found = keep_best_phrase(found, batched_input["merge_iou"])
    return paste_masks(found)  # of those that are left


def answer(output: dict[str, Any], batched_input: dict[str, Any]) -> Answer:
    """Of `GLIP.outputs` for an input with a question."""
    instances = _of_text(output, batched_input)
    return Answer(output["answer"], output["answers"], instances, output["prompt"])


def caption(output: dict[str, Any], batched_input: dict[str, Any]) -> Caption:
    """Of `GLIP.outputs` for an input with a caption to be written."""
    instances = _of_text(output, batched_input)
    return Caption(output["caption"], output["caption_score"], instances, output["prompt"])


def presence(output: dict[str, Any], batched_input: dict[str, Any]) -> list[tuple[str, float]]:
    """Of `GLIP.outputs` for an input: each phrase and how likely it is in the image."""
    names = [name for prompt in batched_input["prompt"] for name in prompt.names]
    return list(zip(names, output["presence"].tolist(), strict=True))


def _of_text(output: dict[str, Any], batched_input: dict[str, Any]) -> Instances:
    found = rescale(output["instances"], batched_input).to("cpu")
    return paste_masks(best_of_each_phrase(found))


def best_of_each_phrase(instances: Instances) -> Instances:
    """Of each phrase the best box, in the order of the text: as the paper grounds what it writes
    (Appendix D.2, "take the maximum").

    Args:
        instances: best first.
    """
    first: dict[int, int] = {}
    for row, phrase in enumerate(instances.pred_classes.tolist()):
        first.setdefault(phrase, row)
    return instances[torch.tensor([first[phrase] for phrase in sorted(first)], dtype=torch.int64)]


def keep_best_phrase(instances: Instances, iou: float) -> Instances:
    """Of boxes that overlap by more than `iou` keep the one with the best score.

    A model that is asked for sixty names finds many of them in every object, with falling scores,
    since GLIP suppresses overlaps within a class only.
    """
    return instances[nms(instances.pred_boxes.tensor, instances.scores, iou)]
