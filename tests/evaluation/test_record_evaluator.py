import json

import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import RecordEvaluator
from tests.support.benchmark_predictions import evaluate, instances, record, registered


class FoundEvaluator(RecordEvaluator):
    """Share of the images in which anything is found with a score above `above`."""

    def __init__(self, dataset_name, output_dir=None, distributed=True, *, above=0.0):
        super().__init__(dataset_name, output_dir, distributed)
        self.above = above

    def prediction_of(self, record, instances):
        return bool((instances.scores > self.above).any())

    def as_row(self, prediction):
        return {"found": prediction}

    def score_records(self, predictions):
        return {"found": {"images": 100 * sum(predictions) / len(predictions)}}


def test_an_evaluator_of_ones_own_gets_all_records_in_their_order(tmp_path):
    outputs = {i: instances([(0, 0, 9, 9)], [score]) for i, score in ((7, 0.6), (2, 0.4))}
    with registered("mine", [record(7, []), record(2, [])], "mine"):
        evaluator = FoundEvaluator("mine", str(tmp_path), distributed=False, above=0.5)
    assert evaluate(evaluator, outputs, ids=[2, 7]) == {"found": {"images": 50}}
    rows = json.loads((tmp_path / "mine_predictions.json").read_text())
    assert [(row["image_id"], row["found"]) for row in rows] == [(7, True), (2, False)]
    with pytest.raises(DataError, match="1 of 2 images were not evaluated, the first: 7"):
        evaluate(evaluator, outputs, ids=[2])


def test_an_id_stands_for_one_record():
    with (
        registered("mine", [record(7, []), record(7, [])], "mine"),
        pytest.raises(DataError, match="1 image ids stand for several records, the first: 7"),
    ):
        FoundEvaluator("mine")
    with pytest.raises(DataError, match="no registered data set 'nowhere'"):
        FoundEvaluator("nowhere")
