"""Pseudo labels of questions, by a teacher that finds what it is told to find."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from glipv2_d2.labeling.questions import label_questions, most_given_answer
from glipv2_d2.language.noun_phrases import rules

STAR, OTHER, RING = (10, 10, 30, 30), (50, 10, 70, 30), (40, 30, 60, 50)


class Teacher:
    """Finds `things`: phrase -> [(box, score)]; keeps what it was asked, a list per call."""

    batch_size = 2

    def __init__(self, tokenizer, things):
        self.glip = SimpleNamespace(tokenizer=tokenizer)
        self.things = things
        self.calls = []

    def __call__(self, images, prompts, *, score_threshold, merge_iou, masks):
        assert merge_iou == 1.0 and not masks and len(images) == len(prompts)
        self.calls.append([[prompt.caption for prompt in of_image] for of_image in prompts])
        return [self._find(image, asked, score_threshold) for image, asked in zip(images, prompts)]

    def _find(self, image, prompts, score_threshold):
        found = [
            (score, box, number)
            for prompt in prompts
            for number, name in zip(prompt.class_ids, prompt.names)
            for box, score in self.things.get(name, ())
            if score >= score_threshold
        ]
        found.sort(key=lambda item: -item[0])
        return Instances(
            image.shape[:2],
            pred_boxes=Boxes(torch.tensor([box for _, box, _ in found]).reshape(-1, 4).float()),
            scores=torch.tensor([score for score, _, _ in found]),
            pred_classes=torch.tensor([number for _, _, number in found], dtype=torch.int64),
        )


@pytest.fixture
def photo(tmp_path):
    """photo(name) -> its path; 60 x 80 pixels."""

    def write(name):
        path = tmp_path / name
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path)
        return str(path)

    return write


def question(file, text, answer="", **more):
    answers = {"answers": {answer: 1.0}} if answer else {}
    return {"file_name": file, "image_id": text, "caption": text, **answers, **more}


def boxes_of(labels):
    """Of each question {words of it: x0 of their boxes}."""
    return [[(a["bbox"][0], a["tokens_positive"]) for a in boxes] for boxes in labels.boxes]


def label(tokenizer, things, *images, threshold=0.5):
    teacher = Teacher(tokenizer, things)
    return list(label_questions(teacher, images, rules, threshold)), teacher


def test_boxes_of_the_answer_are_those_of_the_mask(tokenizer, photo):
    things = {"ring": [(RING, 0.9), (STAR, 0.4)], "star": [(STAR, 0.8)]}
    asked = [question(photo("a.png"), "what is beside the ring?", "star")]
    (labels,), teacher = label(tokenizer, things, asked)
    assert teacher.calls == [[["what is beside the ring? star"]]]
    assert (labels.height, labels.width) == (60, 80)
    ring, mask = labels.boxes[0]
    assert ring == {"bbox": [40, 30, 20, 20], "tokens_positive": [(19, 23)], "score": 0.9}
    # "what is beside the ring? [MASK]"
    assert mask == {"bbox": [10, 10, 20, 20], "tokens_positive": [(25, 31)], "score": 0.8}


def test_the_object_that_the_question_is_about_has_both_and_no_other_has_the_answer(
    tokenizer, photo
):
    things = {"star": [(STAR, 0.9)], "red": [(OTHER, 0.95), (STAR, 0.8)]}
    (labels,), _ = label(
        tokenizer, things, [question(photo("a.png"), "what color is the star?", "red")]
    )
    assert boxes_of(labels) == [[(10, [(18, 22), (24, 30)])]]
    assert labels.boxes[0][0]["score"] == 0.9


@pytest.mark.parametrize("answer", ["yes", "2", "left", ""])
def test_an_answer_that_names_nothing_has_no_box(answer, tokenizer, photo):
    things = {"stars": [(STAR, 0.9)], answer: [(RING, 0.9)]}
    asked = [question(photo("a.png"), "are there stars?", answer)]
    (labels,), teacher = label(tokenizer, things, asked)
    assert teacher.calls == [[[f"are there stars? {answer}".strip()]]]
    assert boxes_of(labels) == [[(10, [(10, 15)])]]


def test_questions_keep_their_own_boxes_in_batches_of_images(tokenizer, photo):
    things = {"star": [(STAR, 0.9)], "ring": [(RING, 0.8)]}
    first = [
        question(photo("a.png"), "is there a ring?", "yes"),
        question(photo("a.png"), "are they playing?", "yes"),
        question(photo("a.png"), "what is it? [MASK]", "star"),
    ]
    second = [question(photo("b.png"), "is there a star?", "no")]
    third = [question(photo("c.png"), "why?", "yes")]
    labels, teacher = label(tokenizer, things, first, second, third)
    assert [len(call) for call in teacher.calls] == [2]  # two images at once; of the third nothing
    ring, mask, star = [(40, [(11, 15)])], [(10, [(12, 18)])], [(10, [(11, 15)])]
    assert [boxes_of(of_image) for of_image in labels] == [[ring, [], mask], [star], [[]]]


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(tokenizer, photo, tmp_path):
    long = "is there a star " + "or a ring " * 100 + "?"
    things = {"star": [(STAR, 0.9)]}
    (tmp_path / "broken.png").write_bytes(b"no picture")
    labels, _ = label(
        tokenizer,
        things,
        [question(str(tmp_path / "broken.png"), "is there a star?", "yes")] * 2,
        [question(photo("a.png"), long, "yes"), question(photo("a.png"), "is there a star?", "no")],
        [question(photo("b.png"), "is there a star?", "no", height=80, width=80)],
    )
    broken, mixed, resized = (of_image.boxes for of_image in labels)
    assert len(broken) == 2 and all("broken.png" in text for text in broken)
    assert "the limit is 256" in mixed[0] and len(mixed[1]) == 1
    assert "is 80x60 (width x height), but its annotations are for 80x80" in resized[0]


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        ({"human_answers": ["red", "blue", "blue"], "answers": {"red": 1.0}}, "blue"),
        ({"human_answers": ["red", "blue"]}, "red"),
        ({"answers": {"red": 0.3, "blue": 0.9}}, "blue"),
        ({}, ""),
    ],
)
def test_the_answer_is_the_one_that_most_gave(record, answer):
    assert most_given_answer(record) == answer
