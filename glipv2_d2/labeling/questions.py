"""Pseudo labels: boxes that a trained GLIP finds for what the texts of a data set name.

Here of questions, for grounded VQA (GLIPv2, Section 3.3 and Appendix D.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.structures import Instances, pairwise_iou

from ..data.images import check_image_size, read_record_image
from ..data.report import Record
from ..engine.predictor import GroundingPredictor
from ..errors import UserError
from ..language.noun_phrases import Extractor, question_phrases
from ..language.prompt import MASK, Prompt

__all__ = ["ImageLabels", "label_questions", "most_given_answer", "without_mask"]

# Boxes of two phrases that overlap by more are one object, which both name. Those of one phrase
# overlap less, after NMS.
SAME_OBJECT_IOU = 0.7


class ImageLabels(NamedTuple):
    """What was found for the questions about one image; of json's types.

    Attributes:
        height, width: of the image in pixels; 0 where it could not be read.
        boxes: of each question its annotations in MDETR's form (`bbox`, xywh in pixels;
            `tokens_positive`, spans of the question with `MASK` after it; `score`), best first; or,
            as a text, why it could not be labeled.
    """

    height: int
    width: int
    boxes: list[list[dict[str, Any]] | str]


class _Question(NamedTuple):
    """What the teacher is asked for a question.

    Attributes:
        text: the question alone.
        prompt: it and its answer; each phrase has a class id of its own in the image. None: they
            name nothing.
    """

    text: str
    prompt: Prompt | None


def label_questions(
    predictor: GroundingPredictor,
    images: Sequence[Sequence[Record]],
    extractor: Extractor,
    threshold: float,
) -> Iterator[ImageLabels]:
    """Find the entities of questions, and those of their answers, which become those of `MASK`.

    The teacher reads question and answer as one text, "what color is the star? red". What it finds
    for the answer belongs to the `MASK` in its place, as in the official code (`divert_boxes` of
    GLIP's pseudo_data.py). An answer without a noun phrase ("yes", "2", "left") has no box of its
    own. Where the answer and an entity of the question are one object, it is the one that the
    question is about, and other boxes of the answer (other red things) are left out.

    Args:
        predictor: the teacher; takes `batch_size` images together, each with all its questions.
        images: the questions about each image; they have their `most_given_answer`.
        extractor: finds the noun phrases.
        threshold: boxes that score less are left out.

    Yields:
        The labels of each image, in their order. Images and questions that cannot be used do not
        stop the others.
    """
    for start in range(0, len(images), predictor.batch_size):
        batch = images[start : start + predictor.batch_size]
        pixels = [_read(records) for records in batch]
        asked = [_asked(records, predictor, extractor) for records in batch]
        prompts = [[q.prompt for q in of if isinstance(q, _Question) and q.prompt] for of in asked]
        sought = [i for i, p in enumerate(pixels) if not isinstance(p, str) and prompts[i]]
        found: dict[int, Instances] = {}
        if sought:
            instances = predictor(
                [pixels[i] for i in sought],
                [prompts[i] for i in sought],
                score_threshold=threshold,
                merge_iou=1.0,
                masks=False,
            )
            found = dict(zip(sought, instances))
        for i, image in enumerate(pixels):
            if isinstance(image, str):
                yield ImageLabels(0, 0, [image] * len(batch[i]))
            else:
                boxes = [_boxes(question, found.get(i)) for question in asked[i]]
                yield ImageLabels(image.shape[0], image.shape[1], boxes)


def most_given_answer(record: Record) -> str:
    """The answer that most people gave, or that with the best score where people are not told; of
    several the first, and "" where there is none."""
    counts: Mapping[str, float] = Counter(record.get("human_answers", ()))
    counts = counts or record.get("answers", {})
    return max(counts, key=counts.__getitem__, default="")


def without_mask(record: Record) -> str:
    """The question of a record, without the `MASK` that it may end with."""
    return record["caption"].removesuffix(MASK).rstrip()


def _read(records: Sequence[Record]) -> np.ndarray | str:
    """The image of some questions, or why it cannot be used."""
    try:
        pixels = read_record_image(records[0])
        for record in records:
            check_image_size({**record}, pixels)
    except (UserError, OSError) as error:
        return str(error)
    return pixels


def _asked(
    records: Sequence[Record], predictor: GroundingPredictor, extractor: Extractor
) -> list[_Question | str]:
    """What is asked about an image; a text for what is too long or odd for the teacher."""
    asked: list[_Question | str] = []
    classes = 0
    for record in records:
        text, answer = without_mask(record), most_given_answer(record)
        begin = len(text) + 1
        spans = question_phrases(text, extractor)
        spans += [(begin + start, begin + end) for start, end in extractor(answer)]
        if not spans:
            asked.append(_Question(text, None))
            continue
        try:
            prompt = Prompt.from_caption(f"{text} {answer}".rstrip(), [[span] for span in spans])
            predictor.glip.tokenizer([prompt])
        except UserError as error:
            asked.append(str(error))
            continue
        ids = tuple(range(classes, classes + len(spans)))
        asked.append(_Question(text, replace(prompt, class_ids=ids)))
        classes += len(spans)
    return asked


def _boxes(question: _Question | str, found: Instances | None) -> list[dict[str, Any]] | str:
    """The annotations of a question, from what was found in its image for all questions."""
    if isinstance(question, str) or question.prompt is None or found is None:
        return question if isinstance(question, str) else []
    end, prompt = len(question.text), question.prompt
    mask = (end + 1, end + 1 + len(MASK))
    spans = {i: mask if s > end else (s, e) for i, ((s, e),) in zip(prompt.class_ids, prompt.spans)}
    found = found[torch.isin(found.pred_classes, torch.tensor(prompt.class_ids))]
    overlaps = pairwise_iou(found.pred_boxes, found.pred_boxes) > SAME_OBJECT_IOU
    objects: dict[int, set[tuple[int, int]]] = {}  # the best box of each -> what names it
    for row, number in enumerate(found.pred_classes.tolist()):  # best first
        best = next((i for i in objects if overlaps[row, i]), row)
        objects.setdefault(best, set()).add(spans[number])
    if any(mask in names and len(names) > 1 for names in objects.values()):
        objects = {row: names for row, names in objects.items() if names != {mask}}
    annotations = []
    for row, names in objects.items():
        x0, y0, x1, y1 = found.pred_boxes.tensor[row].tolist()
        box = [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)]
        score = round(found.scores[row].item(), 4)
        annotations.append({"bbox": box, "tokens_positive": sorted(names), "score": score})
    return annotations
