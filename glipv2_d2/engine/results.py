"""What GroundingPredictor returns, on the CPU and in the image's own pixels."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from detectron2.structures import Instances
from torchvision.ops import nms

from ..language.prompt import Prompt
from ..modeling.mask_output import paste_masks, rescale

__all__ = [
    "Answer",
    "Caption",
    "Line",
    "answer",
    "best_of_each_phrase",
    "caption",
    "colored_words",
    "detections",
    "keep_best_phrase",
    "presence",
]


# Parts of a text, each with the class whose color it has.
Line = Sequence[tuple[str, int | None]]


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

    def __repr__(self) -> str:
        best = ", ".join(f"{text!r} {score:.2f}" for text, score in self.answers)
        return f"Answer({self.answer!r}, of {best}; {_boxes(self.instances)})"

    @property
    def words(self) -> Line:
        """The question and its answer, what has a box with its class."""
        boxes = set(self.instances.pred_classes.tolist())
        phrases = zip(self.prompt.class_ids, self.prompt.spans)
        span = (self.prompt.answer_span,)
        own = next((i for i, spans in phrases if spans == span and i in boxes), None)
        return [*colored_words(self.prompt, self.instances), (f" {self.answer}", own)]


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

    def __repr__(self) -> str:
        return f"Caption({self.caption!r}, score {self.score:.2f}; {_boxes(self.instances)})"

    @property
    def words(self) -> Line:
        """The caption, what has a box with its class."""
        return colored_words(self.prompt, self.instances)


def _boxes(instances: Instances) -> str:
    """What there are boxes of, in a printed result."""
    return f"boxes of {', '.join(map(repr, instances.pred_phrases)) or 'nothing'}"


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


def colored_words(prompt: Prompt, instances: Instances) -> Line:
    """The text of a prompt, the phrases that have a box with their class.

    Without the `MASK` that stands for the answer to a question.
    """
    shown = set(instances.pred_classes.tolist())
    end = len(prompt.caption) if prompt.answer_span is None else prompt.answer_span[0]
    classes: list[int | None] = [None] * len(prompt.caption)
    for class_id, spans in zip(prompt.class_ids, prompt.spans):
        for start, stop in spans if class_id in shown else ():
            classes[start:stop] = [class_id] * (stop - start)
    parts = groupby(zip(prompt.caption[:end].rstrip(), classes), key=itemgetter(1))
    return [("".join(char for char, _ in chars), class_id) for class_id, chars in parts]


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
