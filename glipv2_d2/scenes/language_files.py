"""Writes questions and captions of the scenes as json in the formats of VQAv2, COCO and MDETR."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..language.prompt import MASK
from ..language.spans import Span
from .captions import Caption
from .descriptions import describe
from .questions import Question, ask_about
from .truth import Scene, scenes_of

FILES = ("questions", "vqa", "vqa_grounding", "captions", "caption_grounding")


class _Plan(NamedTuple):
    """What is written about each scene of a split; `key` enters the random seed."""

    key: int
    questions: int
    captions: int


_PLANS = {"train": _Plan(0, 4, 2), "val": _Plan(1, 3, 5), "novel": _Plan(2, 3, 5)}
_ANSWER_TYPES = {"yes/no": "yes/no", "count": "number"}  # all others: "other"
_RATERS = 10  # VQAv2 has so many answers to each question


class _Asked(NamedTuple):
    number: int
    question: Question
    scene: Scene

    @property
    def labels(self) -> dict[str, Any]:
        """What VQAv2's annotation says of the question, but for its answers."""
        kind = self.question.kind
        return {
            "question_id": self.number,
            "question_type": kind,
            "answer_type": _ANSWER_TYPES.get(kind, "other"),
        }


def language_files(split: str, detection: dict, seed: int) -> dict[str, dict]:
    """Make questions and captions of a split.

    Args:
        split: "train", "val" or "novel".
        detection: content of `annotations/{split}.json`, from which alone all is made.
        seed: of the data set.

    Returns:
        Name of the file (of `FILES`) -> content. The id of an image is that in
        `annotations/{split}.json` (`original_img_id` in the MDETR files, where an image entry is a
        question or a caption).
    """
    plan = _PLANS[split]
    scenes = scenes_of(detection)
    # Generators of their own: pictures and captions of earlier versions stay as they are.
    rng = np.random.default_rng([seed, plan.key, 1])
    questions = ask_about(scenes, split, plan.questions, rng)
    pairs = [(q, scene) for scene, some in zip(scenes, questions) for q in some]
    asked = [_Asked(number, *pair) for number, pair in enumerate(pairs, start=1)]
    rng = np.random.default_rng([seed, plan.key, 2])
    told = [(c, scene) for scene in scenes for c in describe(scene, plan.captions, rng)]
    return {
        "questions": _questions_json(split, asked, detection),
        "vqa": _vqa_json(split, asked),
        "vqa_grounding": _mdetr_json(f"scenes {split} vqa", map(_grounded_question, asked)),
        "captions": _captions_json(split, told, detection),
        "caption_grounding": _mdetr_json(
            f"scenes {split} captions", (_grounded_caption(*pair) for pair in told)
        ),
    }


def _vqav2(split: str) -> dict[str, Any]:
    return {
        "info": {"description": f"scenes {split}"},
        "license": {},
        "data_type": "scenes",
        "data_subtype": split,
    }


def _questions_json(split: str, asked: list[_Asked], detection: dict) -> dict:
    """VQAv2's, with a list of the images beside."""
    questions = [
        {
            "image_id": each.scene.image["id"],
            "question": each.question.text,
            "question_id": each.number,
        }
        for each in asked
    ]
    task = {"task_type": "Open-Ended", "questions": questions, "images": detection["images"]}
    return {**_vqav2(split), **task}


def _vqa_json(split: str, asked: list[_Asked]) -> dict:
    annotations = [
        {
            **each.labels,
            "image_id": each.scene.image["id"],
            "multiple_choice_answer": each.question.answer,
            "answers": [
                {"answer": each.question.answer, "answer_confidence": "yes", "answer_id": rater}
                for rater in range(1, _RATERS + 1)
            ],
        }
        for each in asked
    ]
    return {**_vqav2(split), "annotations": annotations}


def _captions_json(split: str, told: list[tuple[Caption, Scene]], detection: dict) -> dict:
    annotations = [
        {"id": number, "image_id": scene.image["id"], "caption": caption.text}
        for number, (caption, scene) in enumerate(told, start=1)
    ]
    return {
        "info": {"description": f"scenes {split} captions"},
        "licenses": [],
        "type": "captions",
        "images": detection["images"],
        "annotations": annotations,
    }


class _Grounded(NamedTuple):
    """A text about a scene: `phrases` are spans and the things that they mean."""

    text: str
    scene: Scene
    phrases: list[tuple[Span, list[int]]]
    fields: dict[str, Any]


def _grounded_question(asked: _Asked) -> _Grounded:
    """The answer's things are those of the word behind the question."""
    question = asked.question
    start = len(question.text) + 1
    phrases = [*question.phrases, ((start, start + len(MASK)), question.things)]
    fields = {**asked.labels, "task": "question", "answers": {question.answer: 1.0}}
    return _Grounded(f"{question.text} {MASK}", asked.scene, phrases, fields)


def _grounded_caption(caption: Caption, scene: Scene) -> _Grounded:
    members: dict[Span, list[int]] = {}
    for thing, spans in caption.spans.items():
        for span in spans:
            members.setdefault(span, []).append(thing)
    return _Grounded(caption.text, scene, sorted(members.items()), {"task": "caption"})


def _mdetr_json(description: str, texts: Iterable[_Grounded]) -> dict:
    images: list[dict] = []
    annotations: list[dict] = []
    for number, (text, scene, phrases, fields) in enumerate(texts, start=1):
        image = {
            **scene.image,
            "id": number,
            "caption": text,
            "dataset_name": "scenes",
            "tokens_negative": [[0, len(text)]],
            "tokens_positive_eval": [[list(span)] for span, _ in phrases],
            "original_img_id": scene.image["id"],
            "data_source": "scenes",
            **fields,
        }
        images.append(image)
        for index, entry in enumerate(scene.annotations):
            positive = [list(span) for span, things in phrases if index in things]
            if positive:
                own = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
                annotations.append({**entry, **own, "tokens_positive": positive})
    return {
        "info": {"description": description},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"supercategory": "object", "id": 1, "name": "object"}],
    }
