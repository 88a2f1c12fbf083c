"""LVIS's rules on hand-worked images, through the evaluator; see also test_lvis_ap.py."""

import numpy as np
import pytest

from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.evaluation.federated_ap import match_image
from tests.support import lvis_sets
from tests.support.benchmark_predictions import evaluate


def hand_content():
    """Class 1 has two objects in image 3; it is absent in image 10 and unknown in image 17."""
    content = lvis_sets.random_lvis(5, images=3, classes=2)
    content["annotations"] = []
    for image, negative in zip(content["images"], ([], [1], [])):
        image["neg_category_ids"] = negative
        image["not_exhaustive_category_ids"] = []
    for box in ([10.0, 10.0, 40.0, 40.0], [60.0, 30.0, 40.0, 40.0]):
        content["annotations"].append(lvis_sets.annotation(content, 3, 1, box))
    return content


FIRST, SECOND, NOWHERE = [10, 10, 50, 50], [60, 30, 100, 70], [0, 0, 8, 8]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({3: [(FIRST, 0.9), (SECOND, 0.8)]}, 100.0),
        ({3: [(FIRST, 0.9)]}, 51 / 101 * 100),  # recall 0.5: the points 0, 0.01, ... 0.5
        ({3: [(FIRST, 0.9), (SECOND, 0.7)], 10: [(NOWHERE, 0.8)]}, (51 + 50 * 2 / 3) / 101 * 100),
        ({3: [(FIRST, 0.9), (SECOND, 0.7)], 17: [(NOWHERE, 0.8)]}, 100.0),  # not looked for there
        ({3: [(FIRST, 0.9), (FIRST, 0.8), (SECOND, 0.7)]}, (51 + 50 * 2 / 3) / 101 * 100),
        ({}, 0.0),
    ],
)
@pytest.mark.parametrize("ap", ["fixed", "standard"])
def test_hand_worked(register_lvis, found, expected, ap):
    name = register_lvis("lvis_hand", hand_content())
    outputs = {}
    for image in (3, 10, 17):
        boxes = found.get(image, [])
        outputs[image] = lvis_sets.make_instances(
            [b for b, _ in boxes], [s for _, s in boxes], [0] * len(boxes)
        )
    (metrics,) = evaluate(build_evaluator(name, distributed=False, ap=ap), outputs).values()
    for metric in ("AP", "AP50", "AP75", "APr"):
        assert metrics[metric] == pytest.approx(expected)
    assert np.isnan(metrics["APc"])  # the other class has no object


def test_where_a_class_is_not_exhaustive_false_alarms_are_ignored(register_lvis):
    content = hand_content()
    content["images"][0]["not_exhaustive_category_ids"] = [1]
    name = register_lvis("lvis_open", content)
    outputs = {i: lvis_sets.make_instances([], [], []) for i in (10, 17)}
    outputs[3] = lvis_sets.make_instances([NOWHERE, FIRST, SECOND], [0.9, 0.8, 0.7], [0, 0, 0])
    metrics = evaluate(build_evaluator(name, distributed=False), outputs)["bbox"]
    assert metrics["AP"] == pytest.approx(100.0)


def test_a_detection_takes_an_ignored_object_only_where_no_other_is_left():
    """The second detection loses its object to the first and falls back on the ignored one."""
    overlaps = np.array([[0.9, 0.95], [0.8, 0.6]])
    matched, aside = match_image(overlaps, np.array([[False, True]]))
    at_half = (0, 0)  # the only area, IoU 0.5
    assert matched[at_half].tolist() == [True, True]
    assert aside[at_half].tolist() == [False, True]
    at_three_quarters = (0, 5)
    assert matched[at_three_quarters].tolist() == [True, False]


def test_of_equal_overlaps_the_last_object_is_taken():
    """As in the code of COCO and LVIS: the next detection overlaps no other and finds it taken."""
    matched, aside = match_image(np.array([[0.7, 0.7], [0.0, 0.7]]), np.zeros((1, 2), dtype=bool))
    assert matched[0, 0].tolist() == [True, False]
    assert not aside.any()
