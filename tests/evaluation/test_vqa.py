"""VQA's accuracy on hand-worked questions, exact match, boxes, and the file for the server."""

import json

import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import VQAEvaluator, build_evaluator
from glipv2_d2.evaluation.vqa import vqa_accuracy
from glipv2_d2.language import Prompt
from tests.support import benchmark_tree as tree
from tests.support.benchmark_predictions import instances, record, registered

NOTHING = instances([], [])


@pytest.mark.parametrize(
    ("answer", "human", "accuracy"),
    [
        # n of ten who agree: n x min(1, (n - 1) / 3) + (10 - n) x min(1, n / 3), over ten.
        ("dog", ["cat"] * 5 + ["owl"] * 5, 0),
        ("dog", ["dog"] + ["cat"] * 9, 0.3),
        ("dog", ["dog"] * 2 + ["cat"] * 8, 0.6),
        ("dog", ["dog"] * 3 + ["cat"] * 7, 0.9),
        ("dog", ["dog"] * 4 + ["cat"] * 6, 1),
        ("dog", ["dog"] * 10, 1),
        # Normalized where people differ.
        ("2", ["two"] * 2 + ["Two."] * 2 + ["2 dogs"] * 6, 1),
        ("the dog", ["a dog"] * 2 + ["cat"] * 8, 0.6),
        ("t shirt", ["t-shirt"] * 3 + ["shirt"] * 7, 0.9),
        # As typed where all typed the same, but for spaces around and line breaks.
        ("2", ["two"] * 10, 0),
        ("two", ["two\n"] * 10, 1),
        (" two ", ["two"] * 10, 1),
        ("The dog", ["dog"] * 10, 0),
        # Fewer people than ten.
        ("dog", ["dog"], 1),
        ("dog", ["dog", "cat"], 0.5),
    ],
)
def test_accuracy(answer, human, accuracy):
    """Those with ten people are also what the official script gives, with a mean over its ten
    subsets."""
    assert vqa_accuracy(answer, human) == pytest.approx(accuracy)


def question(number, text="what is it?", boxes=(), phrases=(), **fields):
    made = record(number, boxes, text, phrases, task="question", question_id=number, **fields)
    if not boxes:
        del made["annotations"], made["phrases"]
    return made


def answered(evaluator, answers):
    """The result of these answers, by question."""
    evaluator.reset()
    for number, answer in answers.items():
        output = answer if isinstance(answer, dict) else {"answer": answer}
        evaluator.process([{"image_id": number}], [{"instances": NOTHING, **output}])
    return evaluator.evaluate()


def test_types_have_the_mean_over_their_questions(tmp_path):
    records = [
        question(4, human_answers=["1"] * 2 + ["2"] * 8, answer_type="number", question_type="how"),
        question(2, human_answers=["1"] * 3 + ["2"] * 7, answer_type="number", question_type="is"),
        question(3, human_answers=["yes"] * 10, answer_type="yes/no", question_type="is"),
        question(9, human_answers=["owl"] * 10, answer_type="other", question_type="what"),
    ]
    with registered("questions", records, "vqa"):
        evaluator = build_evaluator("questions", str(tmp_path), distributed=False)
        best = [("1", 0.5), ("2", 0.25)]
        outputs = {4: {"answer": "1", "answers": best}, 9: "cat", 2: "1", 3: "yes"}
        results = answered(evaluator, outputs)
    assert results == {
        "vqa": {
            "accuracy": pytest.approx(100 * (0.6 + 0.9 + 1) / 4),
            "accuracy-answer_type:number": pytest.approx(75),
            "accuracy-answer_type:yes/no": 100,
            "accuracy-answer_type:other": 0,
            "accuracy-question_type:how": pytest.approx(60),
            "accuracy-question_type:is": pytest.approx(95),
            "accuracy-question_type:what": 0,
        }
    }
    (table,) = evaluator.tables
    assert table.rows[0] == ["all", 4, pytest.approx(62.5)]
    assert ["question_type: is", 2, pytest.approx(95)] in table.rows
    server = json.loads((tmp_path / "questions_results.json").read_text())
    assert server == [
        {"question_id": 4, "answer": "1"},
        {"question_id": 2, "answer": "1"},
        {"question_id": 3, "answer": "yes"},
        {"question_id": 9, "answer": "cat"},
    ]
    rows = json.loads((tmp_path / "questions_predictions.json").read_text())
    assert rows[0] == {
        "image_id": 4, "caption": "what is it?", "answer": "1", "answers": [["1", 0.5], ["2", 0.25]]
    }  # fmt: skip


def test_gqas_server_has_its_own_names(tmp_path):
    tree.questions(tmp_path)
    with tree.catalogs_at(tmp_path):
        evaluator = build_evaluator("gqa_submission", str(tmp_path), distributed=False)
        assert answered(evaluator, {"00": "yes", "01": "red"}) == {}
    assert json.loads((tmp_path / "gqa_submission_results.json").read_text()) == [
        {"questionId": "00", "prediction": "yes"},
        {"questionId": "01", "prediction": "red"},
    ]


def test_one_right_answer_and_soft_scores():
    records = [
        question(1, answers={"red": 1.0}),
        question(2, answers={"Red": 1.0}),
        question(3, answers={"red": 0.3, "pink": 1.0}),
    ]
    with registered("questions", records, "vqa"):
        evaluator = VQAEvaluator("questions", distributed=False)
        results = answered(evaluator, {1: "red", 2: "red", 3: "red"})
    assert results == {"vqa": {"accuracy": pytest.approx(130 / 3)}}


TEXT = "what is left of the dog and the owl? [MASK]"
DOG, OWL, MASK = (20, 23), (32, 35), (37, 43)
LEFT, RIGHT, FAR = (0, 0, 40, 40), (60, 0, 100, 40), (120, 100, 150, 140)


def test_boxes_of_the_answer_and_of_entities():
    phrases = ((DOG,), (OWL,), (MASK,))
    truth = [(LEFT, 2), (RIGHT, 2), (RIGHT, 0), (FAR, 1)]
    records = [question(1, TEXT, truth, phrases, answers={"cat": 1})]
    prompt = Prompt.from_caption(TEXT, phrases, kind="question")
    # The best of the answer's boxes is one of its two; the owl's best one is wrong; no dog.
    found = instances(
        [FAR, RIGHT, LEFT, FAR, LEFT], [0.2, 0.7, 0.6, 0.5, 0.9], classes=[2, 2, 2, 1, 1]
    )
    with registered("questions", records, "vqa"):
        evaluator = build_evaluator("questions", distributed=False)
        output = {"answer": "cat", "prompt": prompt, "instances": found}
        results = answered(evaluator, {1: output})["vqa"]
        assert results == {"accuracy": 100, "answer_R@1": 100, "entity_R@1": 0}
        assert evaluator.tables[1].rows == [["answer", 1, 100.0], ["entity", 2, 0.0]]
        found.scores[4] = 0.1  # now the owl's box is the right one
        results = answered(evaluator, {1: output})["vqa"]
        assert results == {"accuracy": 100, "answer_R@1": 100, "entity_R@1": 50}


def test_a_phrase_of_several_spans_answers_for_each_of_them():
    """A box that is the dog's and the answer's is a phrase of its own in the prompt."""
    truth = [(LEFT, 0), (RIGHT, 1)]
    records = [question(1, TEXT, truth, ((DOG, MASK), (OWL,)), answers={"dog": 1})]
    prompt = Prompt.from_caption(TEXT, [[OWL], [DOG, MASK]], kind="question")
    with registered("questions", records, "vqa"):
        evaluator = build_evaluator("questions", distributed=False)
        found = instances([LEFT, FAR], [0.9, 0.8], classes=[1, 0])
        output = {"answer": "dog", "prompt": prompt, "instances": found}
        results = answered(evaluator, {1: output})["vqa"]
    assert results == {"accuracy": 100, "answer_R@1": 100, "entity_R@1": 50}


def test_a_test_set_without_answers(tmp_path, caplog):
    with registered("hidden", [question(1), question(2)], "vqa"):
        evaluator = build_evaluator("hidden", str(tmp_path), distributed=False)
        assert answered(evaluator, {2: "no", 1: "yes"}) == {}
        path = tmp_path / "hidden_results.json"
        assert "hidden has no answers, so no accuracy can be computed here" in caplog.text
        assert f"are in {path}" in caplog.text
        assert [row["answer"] for row in json.loads(path.read_text())] == ["yes", "no"]
        evaluator = build_evaluator("hidden", distributed=False)
        assert answered(evaluator, {2: "no", 1: "yes"}) == {}
    assert "were not written: give the evaluator a folder" in caplog.text


def test_what_cannot_be_evaluated():
    with (
        registered("questions", [question(1, answers={"a": 1}), question(2)], "vqa"),
        pytest.raises(DataError, match="1 of 2 questions have no answer, the first: 2"),
    ):
        VQAEvaluator("questions")
    with (
        registered("captions", [record(1, [])], "vqa"),
        pytest.raises(DataError, match="record 1 is no question"),
    ):
        VQAEvaluator("captions")
    with registered("questions", [question(1, answers={"a": 1})], "vqa"):
        evaluator = VQAEvaluator("questions", distributed=False)
        with pytest.raises(DataError, match="question 1: .* no 'answer': has it a VQA head"):
            evaluator.process([{"image_id": 1}], [{"instances": NOTHING}])
