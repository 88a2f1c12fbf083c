"""Questions in VQAv2's and LXMERT's json: records, the development split, and what is refused."""

import json

import pytest
from detectron2.data import DatasetCatalog

from glipv2_d2.data import register_grounding_dataset
from glipv2_d2.data.datasets.vqa import DEVELOPMENT_IMAGES, development_images, load_vqa_json
from glipv2_d2.data.loading import training_records
from glipv2_d2.data.report import Report
from glipv2_d2.errors import DataError

HUMAN = ["Two dogs"] * 2 + ["2 dogs"] + ["dogs"] + ["the cat"] * 6


def question(number, image=9, text="What is it?", **fields):
    return {"question_id": number, "image_id": image, "question": text, **fields}


def annotation(number, answers=HUMAN, **fields):
    return {
        "question_id": number,
        "image_id": 9,
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": answers[0],
        "answers": [{"answer": a, "answer_id": i + 1} for i, a in enumerate(answers)],
        **fields,
    }


@pytest.fixture
def load(tmp_path):
    """load(questions, annotations, further fields of the questions' file, options) -> records."""

    def _load(questions, annotations=None, fields=None, **options):
        content = {"data_subtype": "val2014", "questions": questions, **(fields or {})}
        (tmp_path / "q.json").write_text(json.dumps(content))
        if isinstance(annotations, list):
            (tmp_path / "a.json").write_text(json.dumps({"annotations": annotations}))
            annotations = str(tmp_path / "a.json")
        path = str(tmp_path / "q.json")
        return load_vqa_json(path, "images", annotations=annotations, **options)

    return _load


def test_a_record(load):
    (record,) = load([question(90)], [annotation(90)], dataset_name="vqa")
    assert record.pop("answers") == pytest.approx({"2 dogs": 0.9, "dogs": 0.3, "cat": 1})
    assert record == {
        "file_name": "images/COCO_val2014_000000000009.jpg",
        "image_id": 90,
        "question_id": 90,
        "original_img_id": 9,
        "caption": "What is it?",
        "task": "question",
        "human_answers": HUMAN,
        "question_type": "what is",
        "answer_type": "other",
        "dataset_name": "vqa",
    }


def test_a_test_set_has_no_answers(load):
    (record,) = load([question(90)], image_pattern="COCO_test2015_{image_id:012d}.jpg")
    assert record["file_name"] == "images/COCO_test2015_000000000009.jpg"
    assert not {"answers", "human_answers", "answer_type"} & set(record)


def test_images_that_the_file_names(load):
    images = [{"id": 9, "file_name": "val/x.png", "height": 6, "width": 8}, {"id": "10"}]
    report = Report()
    questions = [question(1), question(2, "9"), question(3, 10), question(4, 11)]
    first, second = load(questions, fields={"images": images}, report=report)
    assert first["file_name"] == second["file_name"] == "images/val/x.png"
    assert (first["height"], first["width"]) == (6, 8)
    assert set(report.kinds) == {"bad file name", "unknown image"}


def test_ids_that_are_texts_of_numbers(load):
    (record,) = load([question("90", "9")], [annotation(90)])
    assert record["question_id"] == 90 and record["original_img_id"] == 9


@pytest.mark.parametrize("count", [1, 3, 4, 12])
def test_another_number_of_answers_than_ten(load, count):
    (record,) = load([question(90)], [annotation(90, ["yes"] * count)])
    assert record["answers"] == {"yes": 1.0}


@pytest.mark.parametrize(
    ("questions", "kind"),
    [
        ([question(1, text=5)], "question is empty or no text"),
        ([question(1, text=" ")], "question is empty or no text"),
        ([question(1, text=None)], "question is empty or no text"),
        ([question(1, image=None)], "bad id"),
        ([question(1, image=[9])], "bad id"),
        ([question(1, image="x")], "bad file name"),
        ([question(None)], "bad id"),
        ([question([1])], "bad id"),
        ([question(1), question("1")], "duplicate question id"),
        (["What is it?"], "no json object"),
    ],
)
def test_a_question_that_cannot_be_used(load, questions, kind):
    report = Report()
    (kept,) = load([*questions, question(2)], report=report)
    assert kept["question_id"] == 2
    assert list(report.kinds) == [kind]
    with pytest.raises(DataError, match=r"q\.json: entry 0|q\.json\[0\]"):
        load([*questions, question(2)], report=Report("", drop_records=False))


@pytest.mark.parametrize("answers", [None, [], "yes", ["yes"], [{"answer": 1}], [{}]])
def test_answers_that_cannot_be_used(load, answers):
    report = Report()
    wrong = {**annotation(1), "answers": answers}
    (kept,) = load([question(1), question(2)], [wrong, annotation(2)], report=report)
    assert kept["question_id"] == 2
    assert list(report.kinds) == ["bad answers"]


def test_files_that_do_not_belong_together(load):
    with pytest.raises(DataError, match=r"1 annotations in .*a.json .* not in .*q.json.* 7\. Do"):
        load([question(1)], [annotation(1), annotation(7)])
    with pytest.raises(DataError, match=r"2 questions of .*q.json have no annotation .* 2\. Do"):
        load([question(1), question(2), question(3)], [annotation(1)])
    with pytest.raises(DataError, match=r"1 questions have several annotations in .*a.json"):
        load([question(1)], [annotation(1), annotation("1")])
    with pytest.raises(DataError, match=r"1 questions of .*q.json are annotated for another image"):
        load([question(1), question(2)], [annotation(1, image_id="9"), annotation(2, image_id=8)])


def test_files_of_another_format(load, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    other = str(tmp_path / "other.json")
    with pytest.raises(DataError, match=r"other.json: .* the list 'annotations' is missing"):
        load([question(1)], annotations=other)
    with pytest.raises(DataError, match=r"other.json: .* the list 'questions' is missing"):
        load_vqa_json(other, "")
    with pytest.raises(DataError, match=r"q.json: .* the list 'images' is missing"):
        load([question(1)], fields={"images": None})
    with pytest.raises(DataError, match="there is no file of questions"):
        load_vqa_json(str(tmp_path / "none.json"), "")


def lxmert(**fields):
    entry = {"img_id": "COCO_val2014_000000000009", "question_id": 90, "sent": "What is it?"}
    return {**entry, "answer_type": "other", "question_type": "what", **fields}


def test_lxmert(tmp_path):
    path = tmp_path / "minival.json"
    path.write_text(json.dumps([lxmert(label={"dog": 1, "cat": 0.3})]))
    (record,) = load_vqa_json(str(path), "coco/val2014")
    assert record["file_name"] == "coco/val2014/COCO_val2014_000000000009.jpg"
    assert record["answers"] == {"dog": 1, "cat": 0.3} and "human_answers" not in record
    assert record["question_type"] == "what"
    with pytest.raises(DataError, match="holds its answers itself"):
        load_vqa_json(str(path), "", annotations="a.json")
    path.write_text(json.dumps([lxmert()]))
    (record,) = load_vqa_json(str(path), "")
    assert "answers" not in record


def test_the_development_split(load):
    """Its images are fixed: a change of them makes every number on it another."""
    images = range(1, 5001)
    chosen = development_images(images)
    assert len(chosen) == DEVELOPMENT_IMAGES == len(development_images(reversed(images)))
    assert sorted(chosen)[:5] == [4, 7, 8, 12, 15]
    questions = [question(10 * i + k, image=i) for i in images for k in range(2)]
    development = load(questions, development=True)
    others = load(questions, development=False)
    assert {record["original_img_id"] for record in development} == chosen
    assert len(development) == 2 * DEVELOPMENT_IMAGES
    assert len(development) + len(others) == len(questions)


def test_training_on_questions_without_answers(load, tmp_path):
    load([question(90)])
    register_grounding_dataset("unanswered", str(tmp_path / "q.json"), str(tmp_path), "vqa")
    assert len(DatasetCatalog.get("unanswered")) == 1
    with pytest.raises(DataError, match="'unanswered' .* has no annotations"):
        training_records("unanswered", Report())


def test_a_registered_set(load, tmp_path):
    load([question(90), question(91)], [annotation(90), annotation(91, ["yes"])])
    options = {"annotations": str(tmp_path / "a.json")}
    register_grounding_dataset(
        "asked", str(tmp_path / "q.json"), str(tmp_path), "vqa", reader_options=options
    )
    assert [r["answers"] for r in DatasetCatalog.get("asked")][1] == {"yes": 1.0}
