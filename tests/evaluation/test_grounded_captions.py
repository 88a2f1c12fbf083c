"""Grounded captions worked by hand."""

import json

import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import GroundedCaptionEvaluator
from glipv2_d2.evaluation.grounded_captions import object_word
from tests.support.benchmark_predictions import evaluate, record, registered, written

LEFT, RIGHT, FAR = (1, 1, 41, 41), (101, 1, 141, 41), (0, 100, 30, 130)
HALF = (1, 1, 41, 21)  # IoU with LEFT exactly 0.5


def image(image_id, *references):
    """An image with reference captions (text, {phrase: boxes})."""
    grounded = []
    for text, phrases in references:
        spans = [((text.index(phrase), text.index(phrase) + len(phrase)),) for phrase in phrases]
        boxes = [(box, k) for k, boxes in enumerate(phrases.values()) for box in boxes]
        caption = record(0, boxes, text, spans)
        grounded.append({key: caption[key] for key in ("caption", "annotations")})
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.jpg",
        "task": "caption",
        "references": [text for text, _ in references],
        "grounded_references": grounded,
    }


def output(caption, **found):
    """A written caption; phrase -> [(box, score), ...], "_" for a space in the phrase."""
    spans, boxes, scores, classes = [], [], [], []
    for index, (phrase, entries) in enumerate(found.items()):
        phrase = phrase.replace("_", " ")
        spans.append((caption.index(phrase), caption.index(phrase) + len(phrase)))
        for box, score in entries:
            boxes.append(box)
            scores.append(score)
            classes.append(index)
    return written(caption, spans, boxes, scores, classes)


def scores_of(images, outputs, folder=None):
    with registered("grounded", images, "grounded_caption"):
        evaluator = GroundedCaptionEvaluator("grounded", folder, distributed=False, java=False)
        return evaluate(evaluator, outputs)


def test_recall_of_the_phrases_that_occur():
    """A phrase counts once for an image, without its article, by its best box; any of several true
    boxes will do, an IoU of 0.5 too."""
    images = [
        image(
            1,
            ("A man sees two dogs", {"A man": [LEFT], "two dogs": [FAR, RIGHT]}),
            ("the man is on a horse", {"the man": [RIGHT], "a horse": [FAR]}),
        ),
        image(2, ("a cat", {"a cat": [LEFT]})),
    ]
    first = output(
        "the man and two dogs",
        man=[(FAR, 0.2), (HALF, 0.9)],
        two_dogs=[(RIGHT, 0.3), (LEFT, 0.2)],
    )
    results = scores_of(images, {1: first, 2: output("a cat", cat=[(LEFT, 0.4), (FAR, 0.5)])})
    # man (hit), two dogs (hit), cat (its best box is far); the horse does not occur.
    assert results["grounded_caption"]["R@1"] == pytest.approx(200 / 3)
    assert results["grounded_caption"]["occurring"] == pytest.approx(75)
    assert set(results["caption"]) >= {"BLEU-4", "CIDEr"}


def test_f1_by_hand():
    """Three object words: man, dog, horse.

    First image, against its two references: "men" is "man", right in the first, unknown in the
    second, which has the word without a box (no mistake); "dog" is in the first with an IoU of
    exactly 0.5 (a miss); in the second it is made up. Second image: the horse is right.
    """
    images = [
        image(
            1,
            ("a man with two dogs", {"a man": [LEFT], "two dogs": [LEFT]}),
            ("a man on a horse", {"a horse": [FAR]}),
        ),
        image(2, ("a horse", {"a horse": [LEFT]})),
    ]
    outputs = {
        1: output("men and a dog in a car", men=[(LEFT, 0.9)], dog=[(HALF, 0.9)], car=[(LEFT, 1)]),
        2: output("horses", horses=[(LEFT, 0.9)]),
    }
    results = scores_of(images, outputs)["grounded_caption"]
    # precision: man 1/1, dog 0/2, horse 1/1; recall: man 1/1, dog 0/1, horse 1/2.
    precision, recall = 2 / 3, (1 + 0 + 1 / 2) / 3
    assert results["F1_all"] == pytest.approx(200 * precision * recall / (precision + recall))
    # Of words in both: precision and recall man 1/1, dog 0/1, horse 1/1.
    assert results["F1_loc"] == pytest.approx(200 / 3)


def test_captions_that_are_empty_or_not_grounded(tmp_path):
    images = [image(i, ("ein Mädchen", {"Mädchen": [LEFT]})) for i in (1, 2)]
    outputs = {1: written("", []), 2: output("Mädchen", Mädchen=[])}
    results = scores_of(images, outputs, str(tmp_path))["grounded_caption"]
    assert results == {"R@1": 0, "occurring": 50, "F1_all": 0, "F1_loc": 0}
    rows = json.loads((tmp_path / "grounded_predictions.json").read_text())
    assert rows[1] == {
        "image_id": 2,
        "caption": "Mädchen",
        "phrases": [{"spans": [[0, 7]], "box": None, "score": 0.0}],
    }


def test_a_data_set_without_boxes_is_refused():
    images = [{"image_id": 1, "file_name": "1.jpg", "references": ["a dog"]}]
    with pytest.raises(DataError, match="no reference caption with boxes.*mdetr_images"):
        scores_of(images, {})


@pytest.mark.parametrize(
    ("phrase", "word"),
    [
        ("two yellow circles", "circle"),
        ("Three women", "woman"),
        ("a bus", "bus"),
        ("some glasses", "glass"),
        ("puppies", "puppy"),
        ("the grass .", "grass"),
        ("...", ""),
    ],
)
def test_object_words_are_singular(phrase, word):
    assert object_word(phrase) == word
