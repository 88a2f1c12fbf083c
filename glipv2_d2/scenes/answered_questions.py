"""Measures how many questions are answered right, and how many without their picture.

A question whose answer its words tell would be answered right with any image: what the right image
adds is what the model sees (GLIPv2's visual question answering, Section 3.3).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..errors import UsageError

__all__ = ["answer_accuracy", "wording_oracle"]

_OF_IMAGE = ("file_name", "height", "width")


@torch.no_grad()
def answer_accuracy(
    model,
    records: Sequence[dict],
    read: Callable[[dict], dict],
    batch_size: int = 16,
) -> dict[str, dict[str, float]]:
    """Answer questions with the right image and with that of another record.

    The other image is that of the record half the list away.

    Args:
        model: a GLIPv2 with `vqa_head`, in evaluation mode.
        records: questions with "answers" and "question_type".
        read: gives the model's input for a record.
        batch_size: questions that go through the model together.

    Returns:
        `right_image` and `other_image` -> "all" and each question type -> accuracy (0 to 1).

    Raises:
        UsageError: the model has no `vqa_head`, or there are fewer than two records.
    """
    if getattr(model, "vqa_head", None) is None:
        raise UsageError(f"{type(model).__name__} answers no questions: it has no vqa_head")
    if len(records) < 2:
        raise UsageError("other images are taken from other records: give two or more")
    result = {}
    for name, shift in (("right_image", 0), ("other_image", len(records) // 2)):
        others = [*records[shift:], *records[:shift]]
        shown = [
            {**record, **{key: other[key] for key in _OF_IMAGE}}
            for record, other in zip(records, others)
        ]
        answers: list[str] = []
        for start in range(0, len(shown), batch_size):
            outputs = model([read(record) for record in shown[start : start + batch_size]])
            answers += [output["answer"] for output in outputs]
        result[name] = _by_type(records, answers)
    return result


def wording_oracle(known: Sequence[dict], records: Sequence[dict]) -> dict[str, float]:
    """Answer each question by its words alone: with the most frequent answer to them.

    Where a question is not among the known ones, its longest beginning that is counts ("is the red
    star left or right of the"): a landmark does not make it a new one.

    Args:
        known: questions whose answers may be learned, with "caption" and "answers"; at least one.
        records: questions to answer, with "question_type" too.

    Returns:
        "all" and each question type -> accuracy (0 to 1).
    """
    counts: dict[tuple[str, ...], Counter] = defaultdict(Counter)
    for record in known:
        words = record["caption"].split()
        answer = max(record["answers"], key=record["answers"].__getitem__)
        for length in range(len(words) + 1):
            counts[tuple(words[:length])][answer] += 1
    answers = []
    for record in records:
        words = record["caption"].split()
        beginnings = (tuple(words[:length]) for length in range(len(words), -1, -1))
        longest = next(words for words in beginnings if words in counts)
        answers.append(counts[longest].most_common(1)[0][0])
    return _by_type(records, answers)


def _by_type(records: Sequence[dict], answers: Sequence[str]) -> dict[str, float]:
    scores: dict[str, list[float]] = defaultdict(list)
    for record, answer in zip(records, answers, strict=True):
        score = record["answers"].get(answer, 0.0)
        for kind in ("all", record["question_type"]):
            scores[kind].append(score)
    return {kind: float(np.mean(scores[kind])) for kind in ("all", *sorted({*scores} - {"all"}))}
