"""The same result for any batch size, order and number of processes; errors common to all."""

import filecmp
import json

import pytest

from glipv2_d2 import compat
from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import build_evaluator
from tests.support import benchmark_predictions as benchmarks


def test_two_processes_give_what_one_gives(tmp_path, quick_processes):
    """One test for all evaluators: starting processes is what takes the time."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    benchmarks.evaluate_all(one)
    compat.launch(benchmarks.evaluate_all, 0, num_processes=2, dist_url="auto", args=(two,))
    # As text: NaN is not equal to itself.
    alone = json.loads((one / "results_0.json").read_text(), parse_constant=str)
    main = json.loads((two / "results_0.json").read_text(), parse_constant=str)
    other = json.loads((two / "results_1.json").read_text(), parse_constant=str)
    for kind in benchmarks.KINDS + benchmarks.CAPTION_KINDS:
        assert main[kind] == alone[kind], kind
        assert main[kind]
        assert other[kind] == {}
        names = sorted(path.name for path in (one / kind).iterdir() if path.suffix == ".json")
        assert names
        _, different, lost = filecmp.cmpfiles(one / kind, two / kind, names, shallow=False)
        assert not different
        assert not lost
    assert "1 of 7 images were not evaluated" in alone["missing"]
    assert main["missing"] == other["missing"] == alone["missing"]


@pytest.mark.parametrize("kind", benchmarks.KINDS + benchmarks.CAPTION_KINDS)
def test_batches_and_order_do_not_matter(kind, tmp_path):
    with benchmarks.benchmark(kind, tmp_path) as (name, options, outputs):
        evaluator = build_evaluator(name, distributed=False, **options)
        single = benchmarks.evaluate(evaluator, outputs)
        backwards = list(outputs)[::-1]
        assert repr(benchmarks.evaluate(evaluator, outputs, batch=3)) == repr(single)
        assert repr(benchmarks.evaluate(evaluator, outputs, batch=3, ids=backwards)) == repr(single)
        values = [v for group in single.values() for v in group.values()]
        assert any(0 < value < 100 for value in values)


@pytest.mark.parametrize("kind", benchmarks.KINDS)
def test_no_predictions_at_all(kind, tmp_path):
    with benchmarks.benchmark(kind, tmp_path) as (name, options, outputs):
        evaluator = build_evaluator(name, distributed=False, **options)
        empty = {image_id: found[:0] for image_id, found in outputs.items()}
        results = benchmarks.evaluate(evaluator, empty)
        assert results
        for group in results.values():
            assert set(group.values()) == {0.0}


@pytest.mark.parametrize("kind", benchmarks.KINDS)
def test_what_would_falsify_the_result_is_named(kind, tmp_path):
    with benchmarks.benchmark(kind, tmp_path) as (name, options, outputs):
        evaluator = build_evaluator(name, distributed=False, **options)
        first, second, *_ = outputs

        def show(image_id, found):
            evaluator.process([{"image_id": image_id}], [benchmarks.whole_output(found)])

        evaluator.reset()
        show(first, outputs[first])
        with pytest.raises(DataError, match=f"{name}.*evaluated twice, the first: {first}"):
            show(first, outputs[first])
        with pytest.raises(DataError, match="no image 99999"):
            show(99999, outputs[first])
        with pytest.raises(DataError, match="no image None"):
            evaluator.process([{}], [benchmarks.whole_output(outputs[first])])
        with pytest.raises(
            DataError, match=f"6 of 7 images were not evaluated, the first: {second}"
        ):
            evaluator.evaluate()
        with pytest.raises(ValueError, match="shorter|longer"):
            evaluator.process([{"image_id": second}], [])
        outputs[second].scores[1] = float("nan")
        with pytest.raises(DataError, match=rf"image {second}: 1 of \d+ predictions have scores"):
            show(second, outputs[second])
        evaluator.reset()
        outputs[second].scores[1] = 0.5
        outputs[second].pred_boxes.tensor[0, 2] = float("inf")
        with pytest.raises(DataError, match=f"image {second}: 1 of .* have pred_boxes"):
            show(second, outputs[second])
