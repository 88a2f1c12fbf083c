"""RefCOCO's precision at k on hand-worked captions; IoU and generalized IoU."""

import json

import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import RefExpEvaluator, build_evaluator
from tests.support.benchmark_predictions import evaluate, instances, record, registered

TARGET = (10, 10, 50, 50)
HALF = (10, 10, 50, 30)  # IoU 0.5, and so is its generalized IoU: the hull is the target
LARGER = (4, 4, 58, 58)  # IoU 1600 / 2916
BESIDE = (22, 4, 56, 50)  # IoU 1120 / (1600 + 1564 - 1120) = 0.548; hull 46 x 46
FAR = (100, 100, 120, 120)


@pytest.mark.parametrize(
    ("box", "plain", "generalized"),
    [
        (TARGET, True, True),
        (HALF, True, True),  # 0.5 is enough
        (LARGER, True, True),
        (BESIDE, True, True),  # 0.548, less 72 / 2116
        ((23, 4, 57, 50), True, False),  # 1080 / 2084 = 0.518, less (47 * 46 - 2084) / (47 * 46)
        (FAR, False, False),
        ((20, 20, 20, 40), False, False),  # no area, inside
    ],
)
def test_what_is_a_hit(box, plain, generalized):
    with registered("refs", [record(1, [TARGET])], "refexp"):
        for strict, hit in ((False, plain), (True, generalized)):
            evaluator = build_evaluator("refs", distributed=False, generalized_iou=strict)
            results = evaluate(evaluator, {1: instances([box], [0.9])})
            group = "refexp_giou" if strict else "refexp"
            assert results == {group: dict.fromkeys(("P@1", "P@5", "P@10"), 100.0 * hit)}


def hand_worked():
    """Hits at rank 1, 2, 6, 11 and never, and a caption without predictions."""
    records = [record(number, [TARGET], phrases=(((0, 22),),)) for number in range(6)]
    outputs = {}
    for number, misses in enumerate((0, 1, 5, 10)):
        scores = [0.9 - 0.01 * k for k in range(misses)] + [0.5]
        outputs[number] = instances([FAR] * misses + [HALF], scores)
    outputs[4] = instances([FAR, FAR], [0.9, 0.8])
    outputs[5] = instances([], [])
    return records, outputs


def test_precision_at_k(tmp_path):
    records, outputs = hand_worked()
    with registered("refs", records, "refexp"):
        evaluator = build_evaluator("refs", output_dir=str(tmp_path), distributed=False)
        results = evaluate(evaluator, outputs)
    assert results == {
        "refexp": {
            "P@1": pytest.approx(100 / 6),
            "P@5": pytest.approx(200 / 6),
            "P@10": pytest.approx(300 / 6),
        }
    }
    rows = json.loads((tmp_path / "refs_predictions.json").read_text())
    assert len(rows) == 6
    assert rows[1]["scores"] == [0.9, 0.5]


@pytest.mark.parametrize("boxes", [[], [TARGET, FAR]])
def test_an_expression_names_one_object(boxes):
    with (
        registered("refs", [record(8, boxes)], "refexp"),
        pytest.raises(DataError, match=f"image 8 has {len(boxes)} boxes"),
    ):
        RefExpEvaluator("refs")
