import json
import math
import zipfile

import numpy as np
import pytest
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from pycocotools.cocoeval import COCOeval

from glipv2_d2.evaluation import SubsetCOCOEvaluator, build_evaluator
from glipv2_d2.evaluation.subset_coco import has_fast_coco_eval
from tests.support.benchmark_predictions import benchmark, evaluate, instances

CLASSES = ["a", "b", "c", "d"]
BOX, OTHER = (5, 5, 20, 20), (35, 35, 20, 20)
# Class a: two objects, both found. b: two objects, one found. c: never there. d: never found.
IMAGES = [[(0, BOX), (1, OTHER)], [(0, BOX), (1, OTHER)], [(3, BOX)]]
HALF = 51 / 101 * 100  # precision 1 at recalls 0, 0.01, ..., 0.5, then 0


def found(*images):
    """{image id: Instances} of the (class index, xywh, score) found in each image."""
    outputs = {}
    for image_id, objects in enumerate(images, start=1):
        boxes = [[x, y, x + w, y + h] for _, (x, y, w, h), _ in objects]
        scores, classes = [score for *_, score in objects], [c for c, *_ in objects]
        outputs[image_id] = instances(boxes, scores, classes, size=(64, 64))
    return outputs


OUTPUTS = found([(0, BOX, 0.9), (1, OTHER, 0.8)], [(0, BOX, 0.7), (2, OTHER, 0.6)], [])


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["a"], 100.0),
        (["b"], HALF),
        (["d"], 0.0),
        (["a", "b"], (100 + HALF) / 2),
        (["b", "d"], HALF / 2),
        (["a", "c"], 100.0),  # a class without ground truth is left out of the mean
        (CLASSES, (100 + HALF) / 3),
    ],
)
def test_hand_worked_means(register, classes, expected):
    name = register("subset_hand", CLASSES, IMAGES)
    results = evaluate(SubsetCOCOEvaluator(name, classes=classes, distributed=False), OUTPUTS)
    for metric in ("AP", "AP50", "AP75"):
        assert results["bbox"][metric] == pytest.approx(expected, abs=1e-6)
    reported = {key[3:] for key in results["bbox"] if key.startswith("AP-")}
    assert reported == set(classes)


def test_a_class_without_truth_alone_is_not_a_number(register):
    name = register("subset_nan", CLASSES, IMAGES)
    results = evaluate(SubsetCOCOEvaluator(name, classes=["c"], distributed=False), OUTPUTS)
    assert math.isnan(results["bbox"]["AP50"])


def test_all_classes_give_the_stock_numbers(register):
    rng = np.random.default_rng(0)
    images, outputs = [], []
    for _ in range(12):
        boxes = [(*rng.uniform(0, 30, 2), *rng.uniform(6, 34, 2)) for _ in range(4)]
        labels = rng.integers(4, size=4)
        images.append([(int(c), tuple(map(float, b))) for c, b in zip(labels, boxes)])
        shifted = [tuple(float(v + rng.normal(0, 1.5)) for v in box) for box in boxes]
        guesses = np.where(rng.random(4) < 0.3, rng.integers(4, size=4), labels)
        outputs.append([(int(c), b, float(rng.random())) for c, b in zip(guesses, shifted)])
    outputs = found(*outputs)
    name = register("subset_stock", CLASSES, images)
    stock = evaluate(
        COCOEvaluator(name, distributed=False, use_fast_impl=has_fast_coco_eval()), outputs
    )["bbox"]
    ours = evaluate(SubsetCOCOEvaluator(name, distributed=False), outputs)["bbox"]
    assert ours == pytest.approx(stock, nan_ok=True)
    assert 0 < ours["AP"] < ours["AP50"]
    per_class = evaluate(SubsetCOCOEvaluator(name, classes=["b"], distributed=False), outputs)
    assert per_class["bbox"]["AP"] == pytest.approx(stock["AP-b"])


def test_classes_with_one_name_are_scored_by_their_numbers(register):
    images = [[(0, BOX), (1, OTHER)], [(2, BOX)]]
    outputs = found([(0, BOX, 0.9)], [(2, BOX, 0.9)])  # the second bolt is missed
    name = register("subset_namesakes", ["bolt", "bolt", "nut"], images)
    stock = evaluate(COCOEvaluator(name, distributed=False, use_fast_impl=False), outputs)["bbox"]
    ours = evaluate(SubsetCOCOEvaluator(name, distributed=False), outputs)["bbox"]
    assert stock["AP50"] == ours["AP50"] == pytest.approx(200 / 3)
    # The stock evaluator writes one over the other.
    assert {key: ours[key] for key in ours if key.startswith("AP-")} == {
        "AP-bolt (id 10)": pytest.approx(100.0),
        "AP-bolt (id 20)": 0.0,
        "AP-nut": pytest.approx(100.0),
    }
    bolts = evaluate(SubsetCOCOEvaluator(name, classes=["bolt"], distributed=False), outputs)
    assert bolts["bbox"]["AP50"] == pytest.approx(50.0)
    assert sorted(k for k in bolts["bbox"] if "-" in k) == ["AP-bolt (id 10)", "AP-bolt (id 20)"]


def test_no_detection_at_all_is_zero(register):
    name = register("subset_empty", CLASSES, IMAGES)
    results = evaluate(SubsetCOCOEvaluator(name, distributed=False), found([], [], []))
    assert results["bbox"]["AP50"] == 0.0


def test_classes_come_from_the_metadata(register):
    name = register("subset_metadata", CLASSES, IMAGES, evaluated_classes=["b", "d"])
    assert build_evaluator(name, distributed=False).classes == ["b", "d"]
    name = register("subset_plain", CLASSES, IMAGES)
    assert build_evaluator(name, distributed=False).classes == CLASSES


def test_unknown_or_no_classes_are_named(register):
    name = register("subset_bad", CLASSES, IMAGES)
    with pytest.raises(ValueError, match=r"subset_bad.*does not have the classes \['z'\]"):
        SubsetCOCOEvaluator(name, classes=["a", "z"])
    with pytest.raises(ValueError, match="has no classes"):
        SubsetCOCOEvaluator(name, classes=[])


def test_masks_give_the_stock_numbers(tmp_path):
    with benchmark("coco", tmp_path) as (name, _, outputs):
        DatasetCatalog.get(name)  # the class names and ids
        stock = COCOEvaluator(name, distributed=False, use_fast_impl=has_fast_coco_eval())
        expected = evaluate(stock, outputs)
        ours = evaluate(SubsetCOCOEvaluator(name, distributed=False), outputs)
    assert set(ours) == {"bbox", "segm"}
    for task in ours:
        assert ours[task] == pytest.approx(expected[task], nan_ok=True)
        assert ours[task]["AP"] > 0


def test_the_server_computes_the_same_from_the_submission(tmp_path):
    """By pycocotools, which would take the area of a mask from a box beside it."""
    with benchmark("coco", tmp_path) as (name, _, outputs):
        DatasetCatalog.get(name)
        evaluator = SubsetCOCOEvaluator(
            name, distributed=False, output_dir=str(tmp_path / "out"), submission="detections_x"
        )
        results = evaluate(evaluator, outputs)
    for task, field in (("bbox", "bbox"), ("segm", "segmentation")):
        with zipfile.ZipFile(tmp_path / f"out/{task}/detections_x.zip") as archive:
            assert archive.namelist() == ["detections_x.json"]
            rows = json.loads(archive.read("detections_x.json"))
        assert {frozenset(row) for row in rows} == {
            frozenset(("image_id", "category_id", field, "score"))
        }
        truth = evaluator._coco_api
        server = COCOeval(truth, truth.loadRes(rows), task)
        server.evaluate()
        server.accumulate()
        server.summarize()
        for number, metric in enumerate(("AP", "AP50", "AP75", "APs", "APm", "APl")):
            value = results[task][metric]
            expected = 100 * server.stats[number] if server.stats[number] >= 0 else math.nan
            assert value == pytest.approx(expected, nan_ok=True), (task, metric)


def test_a_model_without_masks_submits_boxes_alone(register, tmp_path):
    name = register("subset_boxes", CLASSES, IMAGES)
    evaluator = SubsetCOCOEvaluator(
        name, distributed=False, output_dir=str(tmp_path), submission="detections_x"
    )
    evaluate(evaluator, OUTPUTS)
    assert [path.parent.name for path in tmp_path.glob("*/*.zip")] == ["bbox"]
