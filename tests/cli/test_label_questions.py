"""`glip label`, from a registered data set of questions to records that are trained on."""

import json

import pytest

from glip_commands.main import main
from glipv2_d2.cli import label_questions
from glipv2_d2.data import GroundingDatasetMapper, load_records, register_grounding_dataset
from tests.support.data_fixtures import HEIGHT, WIDTH

CONFIG = "tests/support/tiny_detect.py"
QUESTIONS = [
    ("what color is the star?", "red"),
    ("is there a ring?", "yes"),
    ("why?", "blue"),
    ("are they playing?", "no"),
]


@pytest.fixture
def questions(images, tmp_path):
    """write(fields of every entry) registers "questions": two about each of two images."""

    def write(**fields):
        entries = [
            {
                "id": 50 + i,
                "file_name": f"{i // 2}.png",
                "height": HEIGHT,
                "width": WIDTH,
                "caption": text,
                "task": "question",
                "question_id": 50 + i,
                "answers": {answer: 1.0},
                **fields,
            }
            for i, (text, answer) in enumerate(QUESTIONS)
        ]
        path = tmp_path / "questions.json"
        path.write_text(json.dumps({"images": entries, "annotations": []}))
        register_grounding_dataset("questions", str(path), str(images))

    return write


@pytest.fixture
def run_label(tiny_weights, tmp_path):
    output = tmp_path / "out" / "labels.json"

    def _run(name="questions", *options, output=output):
        arguments = ["--config-file", CONFIG, "--weights", str(tiny_weights)]
        return main(["label", name, *arguments, "--output", str(output), *options])

    _run.output = output
    return _run


def test_labels_are_read_as_questions_with_and_without_known_boxes(
    questions, run_label, images, tokenizer, capsys
):
    questions()
    assert run_label("questions", "--threshold", "0.0", "--batch-size", "2") == 0
    content = json.loads(run_label.output.read_text())
    boxes = len(content["annotations"])
    assert f"4 questions, 3 with boxes ({boxes}), 2 with a box of the answer" in (
        capsys.readouterr().out
    )
    assert content["pseudo_labels"]["threshold"] == 0.0
    assert [path.name for path in run_label.output.parent.iterdir()] == ["labels.json"]

    register_grounding_dataset("labels", str(run_label.output), str(images))
    records = load_records("labels")
    assert [r["caption"] for r in records] == [f"{text} [MASK]" for text, _ in QUESTIONS]
    assert [r["answers"] for r in records] == [{answer: 1.0} for _, answer in QUESTIONS]
    assert all(r["question_id"] == r["image_id"] and r["task"] == "question" for r in records)
    mapper = GroundingDatasetMapper(is_train=True, augmentations=[], tokenizer=tokenizer)
    inputs = [mapper(record) for record in records]
    assert ["instances" in x for x in inputs] == [True, True, True, False]
    assert len(inputs[0]["instances"]) == len(records[0]["annotations"])
    assert {"star", "[MASK]"} & set(inputs[0]["prompt"].names)


def test_a_run_goes_on_where_it_was_stopped(questions, run_label, monkeypatch, capsys):
    questions()
    whole = label_questions.label_questions

    def stopped(*arguments):
        yield next(whole(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(label_questions, "label_questions", stopped)
        assert run_label() == 130
    assert not run_label.output.exists() and "the same command goes on" in capsys.readouterr().err

    def rest(predictor, images, *more):
        assert [of_image[0]["image_id"] for of_image in images] == [52]
        return whole(predictor, images, *more)

    monkeypatch.setattr(label_questions, "label_questions", rest)
    assert run_label() == 0
    resumed = json.loads(run_label.output.read_text())
    assert "1 of 2 images are done already" in capsys.readouterr().out
    monkeypatch.setattr(label_questions, "label_questions", whole)
    assert run_label() == 0
    assert json.loads(run_label.output.read_text()) == resumed


def test_an_image_that_cannot_be_read_is_left_out_and_tried_again(
    questions, run_label, images, capsys
):
    questions()
    picture = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(b"no picture")
    assert run_label() == 1
    assert len(json.loads(run_label.output.read_text())["images"]) == 2
    error = capsys.readouterr().err
    assert "failed: " in error and "2 of 4 questions could not be labeled" in error
    (images / "1.png").write_bytes(picture)
    assert run_label() == 0
    assert len(json.loads(run_label.output.read_text())["images"]) == 4


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"task": "caption"}, (), "not one of questions"),
        ({"answers": {}}, (), "no question of data set 'questions' has an answer"),
        ({}, ("--phrases", "mine"), "unknown noun-phrase extractor 'mine'"),
        ({}, ("--threshold", "5"), "score_threshold must be a number in"),
        ({}, ("--output", "labels.txt"), "--output is a .json file"),
    ],
)
def test_refused(fields, options, message, questions, run_label, capsys):
    questions(**fields)
    assert run_label("questions", *options) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_data_set(run_label, capsys):
    assert run_label("nowhere") == 2
    assert "no data set named 'nowhere'" in capsys.readouterr().err
