"""What COCO's evaluation matched: curves, thresholds, confusion, errors of an image."""

import json

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from glipv2_d2.evaluation.coco_matches import confusion_matrix, match_detections
from glipv2_d2.evaluation.coco_truth import load_coco_truth

BOX, OTHER, NOWHERE = [0, 0, 10, 10], [20, 20, 10, 10], [40, 40, 5, 5]


@pytest.fixture
def truth(tmp_path):
    """Image 1: a cat at BOX, a dog at OTHER; image 2: a dog at BOX, a crowd of them at OTHER."""
    objects = [(1, 3, BOX, 0), (1, 7, OTHER, 0), (2, 7, BOX, 0), (2, 7, OTHER, 1)]
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 64, "width": 64} for i in (1, 2, 3)
        ],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "iscrowd": crowd, "area": 100}
            for n, (i, c, b, crowd) in enumerate(objects, 1)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return load_coco_truth(str(path))


def found(*rows):
    return [
        {"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows
    ]  # fmt: skip


RESULTS = found(
    (1, 3, BOX, 0.9),  # right
    (1, 3, OTHER, 0.8),  # a cat where the dog is
    (1, 7, OTHER, 0.3),  # right
    (2, 7, OTHER, 0.7),  # in the crowd: neither right nor wrong
    (3, 7, NOWHERE, 0.6),  # nothing is there
)


def test_the_curve_of_a_class_and_of_all(truth):
    matches = match_detections(truth, RESULTS)
    cat = matches.curve(3)
    assert cat.recall.tolist() == [1, 1] and cat.precision.tolist() == [1, 0.5]
    dog = matches.curve(7)
    assert dog.scores.tolist() == [0.6, 0.3]
    assert dog.recall.tolist() == [0, 0.5] and dog.precision.tolist() == [0, 0.5]
    assert cat.best() == (0.9, 1, 1)
    # 2 of 4 are right, 2 of 3 objects found: F1 4/7; the first alone: 1 and 1/3, F1 1/2.
    assert matches.curve().best() == (0.3, 0.5, 2 / 3)


def test_the_curve_gives_the_ap_of_pycocotools(truth):
    rng = np.random.default_rng(0)
    boxes = [[int(v) for v in (*rng.integers(0, 12, 2), 10, 10)] for _ in range(60)]
    results = found(*[(1 + n % 3, (3, 7)[n % 2], box, 1 - n / 100) for n, box in enumerate(boxes)])
    results += found((1, 3, BOX, 0.31), (2, 7, BOX, 0.505))
    evaluation = COCOeval(truth, truth.loadRes([dict(r) for r in results]), "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    evaluation.accumulate()
    matches = match_detections(truth, results)
    for k, category in enumerate((3, 7)):
        curve = matches.curve(category)
        falling = np.maximum.accumulate(curve.precision[::-1])[::-1]
        at = np.searchsorted(curve.recall, evaluation.params.recThrs)
        precision = np.append(falling, 0)[at]
        # The same sums in the same order.
        np.testing.assert_allclose(precision, evaluation.eval["precision"][0, :, k, 0, -1])


def test_errors_of_each_image(truth):
    matches = match_detections(truth, RESULTS)
    errors = matches.errors([1, 2, 3], 0.5)
    assert errors == [(1, 1, 1), (0, 0, 1), (0, 1, 0)]  # right, wrong, missed
    assert [e.share for e in errors] == [2 / 3, 1, 1]
    assert matches.errors([3], 0.65) == [(0, 0, 0)]
    assert matches.errors([3], 0.65)[0].share == 0


def test_which_class_is_found_for_which(truth):
    matrix = confusion_matrix(truth, RESULTS, 0.5)
    #                 cat, dog, not found
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert confusion_matrix(truth, RESULTS, 0.95).tolist() == [[0, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_no_detection_at_all(truth):
    matches = match_detections(truth, [])
    assert np.isnan(matches.curve().best()).all()
    assert matches.errors([1], 0.5) == [(0, 0, 2)]
    assert confusion_matrix(truth, [], 0.5)[:, 2].tolist() == [1, 2, 0]
