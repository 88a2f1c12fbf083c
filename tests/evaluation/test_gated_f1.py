"""cgF1 on hand-worked pairs of image and phrase, and against a loop over all assignments."""

import itertools
import json
import math

import numpy as np
import pytest

from glipv2_d2.errors import DataError, UsageError
from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.evaluation.gated_f1 import Pair, gated_f1
from tests.support.benchmark_predictions import (
    HEIGHT,
    WIDTH,
    evaluate,
    instances,
    record,
    registered,
)

CAPTION = "red kite. dog"
PHRASES = (((0, 8),), ((10, 13),))
KITE, OTHER = (10, 10, 50, 50), (100, 10, 140, 50)
NEAR = (10, 10, 50, 42)  # IoU 0.8 with KITE


def pairs_of(image_id, *boxes, **fields):
    """An image that is asked for kites (phrase 0) and dogs (phrase 1)."""
    return record(image_id, list(boxes), CAPTION, PHRASES, **fields)


RECORDS = [
    pairs_of(1, (KITE, 0), (OTHER, 0)),  # two kites, no dog
    pairs_of(2, (KITE, 0)),
    pairs_of(3, (OTHER, 1)),
    pairs_of(4),
]
FOUND = {
    # One kite exactly, one at IoU 0.8, and another on the first; a dog that is not there.
    1: instances([KITE, NEAR, OTHER, KITE], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1]),
    2: instances([NEAR, OTHER], [0.5, 0.49], [0, 0]),  # 0.5 counts
    3: instances([KITE], [0.3], [1]),  # the dog is missed
    4: instances([], [], []),
}
# Kites: two pairs found of two; dogs: one pair missed, one false alarm. Right at IoU up to 0.8:
# 3, above 2; detections 4, objects 4 of the pairs that are there.
F1 = [2 * right / (4 + 4) for right in 7 * [3] + 3 * [2]]
MCC = (2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5)
EXPECTED = {
    "cgF1": 100 * np.mean(F1) * MCC,
    "pmF1": 100 * np.mean(F1),
    "IL_MCC": MCC,
    "IL_precision": 100 * 2 / 3,
    "IL_recall": 100 * 2 / 3,
    "IL_FPR": 100 * 1 / 5,
    "cgF1@0.5": 100 * F1[0] * MCC,
    "cgF1@0.75": 100 * F1[5] * MCC,
}


def test_by_hand(tmp_path):
    with registered("kites", RECORDS, "gated_f1"):
        evaluator = build_evaluator("kites", str(tmp_path), distributed=False)
        results = evaluate(evaluator, FOUND)
    assert set(results) == {"cgf1_bbox"}
    assert results["cgf1_bbox"] == pytest.approx(EXPECTED)
    rows = json.loads((tmp_path / "kites_predictions.json").read_text())
    assert rows[0]["phrases"] == [0, 0, 0, 1] and rows[3]["boxes"] == []
    curve = evaluator.tables[-1]
    assert [row[0] for row in curve.rows][:2] == [0.05, 0.1] and len(curve.rows) == 19
    assert curve.rows[9][1:] == pytest.approx(list(EXPECTED.values()))


def test_the_confidence_from_which_detections_count():
    with registered("kites", RECORDS, "gated_f1"):
        evaluator = build_evaluator("kites", distributed=False, score_threshold=0.95)
        metrics = evaluate(evaluator, FOUND)["cgf1_bbox"]
        assert [metrics[k] for k in ("cgF1", "pmF1", "IL_recall", "IL_FPR")] == [0, 0, 0, 0]
        with pytest.raises(UsageError, match=r"score_threshold must lie in \[0, 1\], got 1.5"):
            build_evaluator("kites", score_threshold=1.5)


def block(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_masks_have_numbers_of_their_own():
    """The boxes of both fit, of the masks one is half: right at IoU 0.5 alone."""
    records = [pairs_of(1, (KITE, 0)), pairs_of(2, (OTHER, 0))]
    half = block(100, 10, 140, 30)
    found = {
        1: instances([KITE], [0.9], [0], [block(*KITE)]),
        2: instances([OTHER], [0.9], [0], [half]),
    }
    with registered("kites", records, "gated_f1"):
        results = evaluate(build_evaluator("kites", distributed=False), found)
    assert results["cgf1_bbox"]["pmF1"] == 100 and results["cgf1_bbox"]["IL_MCC"] == 1
    assert results["cgf1_segm"]["pmF1"] == pytest.approx(100 * (1 + 9 * 0.5) / 10)
    del records[0]["annotations"][0]["segmentation"]
    with registered("kites", records, "gated_f1"):
        results = evaluate(build_evaluator("kites", distributed=False), found)
    assert set(results) == {"cgf1_bbox"}


def test_a_crowd_region_is_no_object():
    crowd = pairs_of(1, (KITE, 0))
    crowd["annotations"][0]["iscrowd"] = 1
    with registered("kites", [crowd], "gated_f1"):
        found = {1: instances([KITE], [0.9], [0])}
        metrics = evaluate(build_evaluator("kites", distributed=False), found)["cgf1_bbox"]
    assert metrics["IL_FPR"] == 50 and metrics["pmF1"] == 0


def test_matching_is_the_best_of_all_assignments():
    """Greedy by score, as in AP, gives the first box the object that only the second can have."""
    greedy = np.array([[0.7, 0.65], [0.6, 0.0]])
    metrics = gated_f1([Pair(np.array([0.9, 0.8]), greedy)], 0.5)
    assert metrics["cgF1@0.5"] == 0 and metrics["pmF1"] == pytest.approx(100 * (3 + 0.5) / 10)
    rng = np.random.default_rng(0)
    for _ in range(20):
        n, g = rng.integers(1, 5, 2)
        ious = rng.random((n, g))
        short, tall = (ious, g) if n <= g else (ious.T, n)
        best = max(
            (short[range(len(short)), order] for order in
             itertools.permutations(range(tall), len(short))),
            key=lambda matched: matched.sum(),
        )  # fmt: skip
        expected = np.mean([2 * (best >= t).sum() / (n + g) for t in np.linspace(0.5, 0.95, 10)])
        found = gated_f1([Pair(np.ones(n), ious)], 0.5)
        assert found["pmF1"] == pytest.approx(100 * expected)


def test_a_record_says_what_is_asked():
    lost = pairs_of(7)
    del lost["phrases"]
    with (
        registered("kites", [lost], "gated_f1"),
        pytest.raises(DataError, match="image 7 does not say which phrases.*absent_names"),
    ):
        build_evaluator("kites")
