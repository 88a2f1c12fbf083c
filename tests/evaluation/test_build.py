import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from glipv2_d2.evaluation import EVALUATORS, build_evaluator
from tests.support.benchmark_predictions import instances, record, registered


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(EVALUATORS, "_obj_map", dict(EVALUATORS._obj_map))


class CountingEvaluator(DatasetEvaluator):
    """Counts predictions above a score."""

    def __init__(self, dataset_name, output_dir=None, distributed=True, *, above=0.0):
        self.above, self.count = above, 0

    def process(self, inputs, outputs):
        self.count += sum(int((x["instances"].scores > self.above).sum()) for x in outputs)

    def evaluate(self):
        return {"count": {"predictions": self.count}}


def test_an_evaluator_of_ones_own_is_named_by_the_metadata(registry):
    EVALUATORS.register(CountingEvaluator)
    with registered("counted", [record(1, [])], "CountingEvaluator"):
        evaluator = build_evaluator("counted", distributed=False, above=0.5)
    evaluator.process([{"image_id": 1}], [{"instances": instances([(0, 0, 9, 9)] * 2, [0.4, 0.6])}])
    assert evaluator.evaluate() == {"count": {"predictions": 1}}


def test_adding_to_the_dict_of_0_1_warns_and_works(registry):
    with pytest.warns(FutureWarning, match=r"EVALUATORS\.register"):
        EVALUATORS["found"] = CountingEvaluator
    with registered("mine", [record(1, [])], "found"):
        assert isinstance(build_evaluator("mine"), CountingEvaluator)


def test_no_evaluator_for_a_type_or_name(register):
    name = register("subset_type", ["a"], [[(0, (5, 5, 20, 20))]])
    MetadataCatalog.get(name).__dict__["evaluator_type"] = "astrology"
    with pytest.raises(ValueError, match=r"'astrology'.*known: \['caption', 'coco'"):
        build_evaluator(name)
    with pytest.raises(ValueError, match="no registered data set 'nowhere'"):
        build_evaluator("nowhere")
