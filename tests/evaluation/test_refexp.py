"""RefCOCO's precision at k on hand-worked captions; IoU and generalized IoU."""

import json

import numpy as np
import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import RefExpEvaluator, build_evaluator
from glipv2_d2.evaluation.boxes import box_iou
from tests.support.benchmarks import evaluate, instances, record, registered

TARGET = (10, 10, 50, 50)
HALF = (10, 10, 50, 30)  # IoU 0.5, and so is its generalized IoU: the hull is the target
LARGER = (4, 4, 58, 58)  # IoU 1600 / 2916
BESIDE = (22, 4, 56, 50)  # IoU 1120 / (1600 + 1564 - 1120) = 0.548; hull 46 x 46
FAR = (100, 100, 120, 120)


@pytest.mark.parametrize(
    ("first", "second", "iou", "giou"),
    [
        (TARGET, TARGET, 1, 1),
        (TARGET, HALF, 0.5, 0.5),
        (TARGET, LARGER, 1600 / 2916, 1600 / 2916),
        (TARGET, BESIDE, 1120 / 2044, 1120 / 2044 - (2116 - 2044) / 2116),
        (TARGET, FAR, 0, -(110 * 110 - 2000) / (110 * 110)),
        (TARGET, (20, 20, 20, 40), 0, 0),  # no area, inside
    ],
)
def test_overlaps(first, second, iou, giou):
    assert box_iou([first], [second])[0, 0] == pytest.approx(iou)
    assert box_iou([first], [second], generalized=True)[0, 0] == pytest.approx(giou)


def test_overlaps_of_nothing():
    assert box_iou(np.zeros((0, 4)), [TARGET]).shape == (0, 1)


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


def test_the_generalized_iou_is_stricter_and_named():
    """Plain IoU 1080 / 2084 = 0.518; with the hull of 47 x 46 it is 0.482."""
    with registered("refs", [record(1, [TARGET])], "refexp"):
        outputs = {1: instances([(23, 4, 57, 50)], [0.9])}
        plain = evaluate(RefExpEvaluator("refs", distributed=False), outputs)
        strict = evaluate(RefExpEvaluator("refs", distributed=False, generalized_iou=True), outputs)
    assert plain["refexp"]["P@1"] == 100
    assert strict["refexp_giou"]["P@1"] == 0


@pytest.mark.parametrize("boxes", [[], [TARGET, FAR]])
def test_an_expression_names_one_object(boxes):
    with (
        registered("refs", [record(8, boxes)], "refexp"),
        pytest.raises(DataError, match=f"image 8 has {len(boxes)} boxes"),
    ):
        RefExpEvaluator("refs")
