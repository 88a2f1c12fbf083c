"""The json of questions and captions of a small rendered set."""

import json

import pytest

from glipv2_d2.data.datasets.mdetr import load_mdetr_json
from glipv2_d2.data.datasets.scenes import NOVEL_CLASSES, SCENES_ANSWERS
from glipv2_d2.scenes.language_files import FILES, language_files
from tests.support.tiny_scenes import detection_content

SPLITS = ("train", "val", "novel")


def test_vqav2_pairs(annotations):
    for split in SPLITS:
        asked, answered = annotations[f"{split}_questions"], annotations[f"{split}_vqa"]
        both = {"info", "license", "data_type", "data_subtype"}
        assert asked.keys() == both | {"task_type", "questions", "images"}
        assert answered.keys() == both | {"annotations"}
        assert asked["images"] == annotations[split]["images"]
        for question, answer in zip(asked["questions"], answered["annotations"], strict=True):
            assert question.keys() == {"image_id", "question", "question_id"}
            assert question["question_id"] == answer["question_id"]
            assert question["image_id"] == answer["image_id"]
            assert answer["question_type"] in ("color", "shape", "count", "yes/no", "relation")
            assert answer["answer_type"] in ("yes/no", "number", "other")
            ten = [(a["answer"], a["answer_id"]) for a in answer["answers"]]
            assert ten == [(answer["multiple_choice_answer"], i) for i in range(1, 11)]
            assert answer["multiple_choice_answer"] in SCENES_ANSWERS


def test_coco_captions(annotations):
    for split, least in (("train", 2), ("val", 4), ("novel", 4)):
        content = annotations[f"{split}_captions"]
        assert content["images"] == annotations[split]["images"]
        by_image = {image["id"]: [] for image in content["images"]}
        for entry in content["annotations"]:
            assert entry.keys() == {"id", "image_id", "caption"}
            by_image[entry["image_id"]].append(entry["caption"])
        assert all(least <= len(set(texts)) == len(texts) <= 5 for texts in by_image.values())


@pytest.mark.parametrize("stem", [f"{s}_{kind}_grounding" for s in SPLITS
                                  for kind in ("vqa", "caption")])  # fmt: skip
def test_grounded_forms_have_the_boxes_of_their_words(annotations, scenes_root, stem):
    split, kind, _ = stem.split("_")
    boxes = {}
    for entry in annotations[split]["annotations"]:
        boxes.setdefault(entry["image_id"], []).append(entry["bbox"])
    records = load_mdetr_json(str(scenes_root / f"annotations/{stem}.json"), str(scenes_root))
    assert len(records) == len(annotations[stem]["images"])
    for record in records:
        caption = record["caption"]
        phrases = [caption[start:end] for ((start, end),) in record["phrases"]]
        assert all(a["bbox"] in boxes[record["original_img_id"]] for a in record["annotations"])
        grounded = {caption[s:e] for a in record["annotations"] for s, e in a["spans"]}
        assert grounded <= set(phrases)
        if kind == "caption":
            assert record["task"] == "caption" and grounded == set(phrases)
            continue
        (answer,) = record["answers"]
        assert record["task"] == "question" and record["answers"] == {answer: 1.0}
        assert record["question_id"] == record["image_id"]
        assert caption.endswith("? [MASK]") and phrases[-1] == "[MASK]"
        assert ("[MASK]" in grounded) == (answer not in ("no", "0"))


def test_the_questions_of_both_forms_are_the_same(annotations):
    plain = {q["question_id"]: q["question"] for q in annotations["val_questions"]["questions"]}
    grounded = {i["question_id"]: i["caption"] for i in annotations["val_vqa_grounding"]["images"]}
    assert grounded == {number: f"{text} [MASK]" for number, text in plain.items()}


def test_training_never_names_a_held_out_pair(annotations):
    for name in FILES:
        text = json.dumps(annotations[f"train_{name}"])
        assert not any(held_out in text for held_out in NOVEL_CLASSES)


def test_an_object_that_is_named_and_is_the_answer_is_one_annotation_with_both_spans():
    content = language_files("train", detection_content("red star .3 .3"), seed=0)
    grounded = content["vqa_grounding"]
    (image,) = [i for i in grounded["images"] if i["question_type"] == "color"]
    (entry,) = [a for a in grounded["annotations"] if a["image_id"] == image["id"]]
    assert image["caption"] == "what color is the star? [MASK]"
    assert entry["tokens_positive"] == [[18, 22], [24, 30]]
