"""What is counted and found doubtful in a data set."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from PIL import Image

from glipv2_d2.data import register_detection_dataset
from glipv2_d2.data.survey import survey
from glipv2_d2.errors import DataError
from tests.support.detection_exports import yolo


def test_counts(datasets, tokenizer, coco_json):
    found = survey(datasets[0], tokenizer=tokenizer)
    assert (found.total, len(found.usable), len(found.images), found.boxes) == (12, 12, 12, 11)
    assert dict(found.classes) == {"cat": 4, "caterpillar": 4, "cat_food": 3}
    assert found.too_long is None and len(found.usable) == 12
    text = "\n".join(found.lines())
    assert "12 usable records of 12" in text and "problems: none" in text
    assert "per record 0 to 1, median 1, 1 records without" in text
    found = survey(datasets[1], tokenizer=tokenizer)
    assert (found.captions, found.phrases, found.boxes, found.too_long) == (12, 24, 24, 0)
    assert found.longest == tokenizer.num_tokens("the star 11 left of the blue ring")


def test_words_that_the_language_model_does_not_know_are_named(datasets, tokenizer, mdetr_json):
    text = mdetr_json.read_text()
    assert "blue ring" in text
    mdetr_json.write_text(text.replace("blue ring", "blue \N{RING}ing"))  # of the same length
    found = survey(datasets[1], tokenizer=tokenizer)
    assert found.unknown == {"\N{RING}ing": 12}
    assert "[UNK]): 1; most: '\N{RING}ing' 12" in "\n".join(found.lines())
    assert survey(datasets[0], tokenizer=tokenizer).unknown == {}


def test_problems_are_counted(datasets, tokenizer, mdetr_json, images):
    text = mdetr_json.read_text().replace("[40, 10, 20, 20]", "[40, 10, 0, 20]", 2)
    mdetr_json.write_text(text)
    (images / "3.png").unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(images / "4.png")
    (images / "5.png").write_bytes(b"")
    found = survey(datasets[1], check_images=True)
    assert (found.total, len(found.usable)) == (12, 9)
    kinds = {kind: count for kind, (count, _) in found.problems.kinds.items()}
    assert kinds == {
        "box without area": 2,
        "missing image file": 1,
        "wrong image size": 1,
        "unreadable image": 1,
    }
    lines = "\n".join(found.lines())
    assert "problem: 2 x box without area; the first: " in lines
    assert "4.png' is 9x9 (width x height), but its annotations are for 80x60" in lines
    for image in images.iterdir():
        image.unlink()
    with pytest.raises(DataError, match="does not exist"):
        survey(datasets[1])


def test_a_set_without_one_box_is_doubtful(datasets, coco_json):
    content = json.loads(coco_json.read_text())
    coco_json.write_text(json.dumps({**content, "annotations": []}))
    found = survey(datasets[0])
    assert "warning: none of 12 records has a box" in "\n".join(found.lines())


def test_a_limit_spreads_evenly(datasets):
    found = survey(datasets[0], max_records=3)
    assert (found.total, len(found.usable)) == (12, 3)
    assert [r["image_id"] for r in found.usable] == [0, 4, 8]


def test_questions_are_counted_with_their_answers(images):
    base = {"height": 60, "width": 80, "task": "question", "caption": "how many?"}
    answers = [{"2": 1.0, "3": 0.3}, {"2": 0.6}, {"3": 0.9}, {}]
    records = [
        {**base, "file_name": str(images / f"{i}.png"), "image_id": i, "answers": scores}
        for i, scores in enumerate(answers)
    ]
    DatasetCatalog.register("tiny_questions", lambda: records)
    found = survey("tiny_questions")
    lines = "\n".join(found.lines())
    assert "records of the task 'question': 4" in lines
    assert "answers: 2; most: '2' 2, '3' 1" in lines
    assert "problems: none" in lines and "test set" not in lines


def test_questions_without_answers_are_a_test_set(images):
    record = {"height": 60, "width": 80, "file_name": str(images / "0.png"), "image_id": 0}
    DatasetCatalog.register("tiny_asked", lambda: [{**record, "task": "question", "caption": "?"}])
    found = survey("tiny_asked")
    assert found.lines()[2].startswith("no annotations: a test set, for evaluation")


def test_sizes_of_boxes_and_images(register, tmp_path):
    for number in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.jpg")
    boxes = [(0, (0, 0, 10, 10)), (0, (0, 0, 40, 40)), (1, (0, 0, 64, 4)), (1, (0, 0, 20, 5))]
    found = survey(register("sized", ["helmet", "helmets"], [boxes[:3], boxes[3:], []]))
    assert found.box_sides == [10, 40, 16, 10] and found.masks == 0
    assert found.size_counts == {"small": 3, "medium": 1, "large": 0}
    assert found.image_sizes == {(64, 64): 3}
    text = "\n".join(found.lines())
    assert "images: 3, all of 64x64" in text and "1 records without" in text
    assert "box sizes: 3 small, 1 medium, 0 large" in text and "median 13; 0 boxes" in text
    assert "perhaps one class, 1: 'helmet' and 'helmets'" in text


def test_images_of_several_sizes(tmp_path):
    register_detection_dataset("parts", yolo(tmp_path))
    text = "\n".join(survey("parts").lines())
    assert "images: 3, of 2 sizes with sides of 48 to 80 pixels, 2 of them 80x60" in text
