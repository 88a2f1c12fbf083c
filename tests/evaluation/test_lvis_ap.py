"""LVIS AP against a brute-force computation and against the authors' package."""

import json
import types

import numpy as np
import pytest
import torch
from detectron2.structures import ROIMasks

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import build_evaluator, detection_table, lvis_ap
from glipv2_d2.evaluation.detection_table import DetectionTable
from tests.support import lvis_sets
from tests.support.benchmark_predictions import evaluate


def percent(metrics):
    return {key: 100 * value for key, value in metrics.items()}


def authors_metrics(content, results, path, task):
    """The `lvis` package's own code, in a namespace where NumPy still has `np.float`."""
    lvis = pytest.importorskip("lvis")
    from lvis import eval as lvis_eval

    old_numpy = types.ModuleType("numpy")
    old_numpy.__dict__.update({**np.__dict__, "float": float})
    accumulate = lvis_eval.LVISEval.accumulate
    accumulate = types.FunctionType(
        accumulate.__code__, {**accumulate.__globals__, "np": old_numpy}
    )
    truth = lvis.LVIS(lvis_sets.write_lvis(content, path))
    rows = []
    for result in results:
        row = {key: result[key] for key in ("image_id", "category_id", "score")}
        if task == "segm":
            rle = detection_table.encode_mask(result["mask"])
            row["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
        else:
            row["bbox"] = result["bbox"]
        rows.append(row)
    evaluation = lvis_eval.LVISEval(truth, lvis.LVISResults(truth, rows, max_dets=-1), task)
    evaluation.params.max_dets = -1
    evaluation.evaluate()
    accumulate(evaluation)
    evaluation.summarize()
    found = evaluation.get_results()
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
    return {name: 100 * found[name] if found[name] >= 0 else float("nan") for name in names}


@pytest.mark.parametrize("seed", [0, 1])
def test_standard_ap_equals_brute_force_and_the_package(register_lvis, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(lvis_ap, "PER_IMAGE", 15)  # of 25
    content = lvis_sets.random_lvis(seed)
    outputs = lvis_sets.random_outputs(content, seed, masks=True)
    name = register_lvis("lvis_random", content)
    results = lvis_sets.as_results(outputs, per_image=15)
    found = evaluate(build_evaluator(name, distributed=False), outputs)
    assert set(found) == {"bbox", "segm"}
    for task in found:
        expected = percent(lvis_sets.brute_force(content, results, masks=task == "segm"))
        assert found[task] == pytest.approx(expected, abs=1e-9, nan_ok=True)
        authors = authors_metrics(content, results, tmp_path / "authors.json", task)
        assert found[task] == pytest.approx(authors, abs=1e-9, nan_ok=True)
    assert not np.isnan(list(found["bbox"].values())).any()  # every size and frequency occurs
    assert 0 < found["bbox"]["AP"] < found["bbox"]["AP50"] < 100


@pytest.mark.parametrize("seed", [2, 3])
def test_fixed_ap_equals_brute_force_and_the_package(register_lvis, tmp_path, monkeypatch, seed):
    """Pruned while collecting, in any order: the best 30 of each class by score and image."""
    monkeypatch.setattr(lvis_ap, "PER_CLASS", 30)
    monkeypatch.setattr(lvis_ap, "_SLACK", 10)
    content = lvis_sets.random_lvis(seed)
    outputs = lvis_sets.random_outputs(content, seed, per_image=40)
    name = register_lvis("lvis_random_minival", content)
    evaluator = build_evaluator(name, distributed=False)
    expected = lvis_sets.as_results(outputs, per_class=30)
    found = evaluate(evaluator, outputs)
    assert set(found) == {"bbox_fixed"}
    brute = percent(lvis_sets.brute_force(content, expected))
    assert found["bbox_fixed"] == pytest.approx(brute, abs=1e-9, nan_ok=True)
    authors = authors_metrics(content, expected, tmp_path / "authors.json", "bbox")
    assert found["bbox_fixed"] == pytest.approx(authors, abs=1e-9, nan_ok=True)
    assert len(DetectionTable.concatenate(evaluator._tables)) <= 30 * 6  # dropped on the way
    order = np.random.default_rng(seed).permutation(list(outputs)).tolist()
    again = evaluate(evaluator, outputs, batch=3, ids=order)
    assert again["bbox_fixed"] == pytest.approx(found["bbox_fixed"], rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("ap", ["fixed", "standard"])
def test_small_masks_are_pasted_block_by_block(register_lvis, monkeypatch, ap):
    """The same masks as pasted by the model; of standard AP only those that count."""
    monkeypatch.setattr(lvis_ap, "PER_IMAGE", 15)  # of 25
    area = lvis_sets.HEIGHT * lvis_sets.WIDTH
    monkeypatch.setattr(detection_table, "_PASTED_AT_ONCE", 7 * area + 1)
    content = lvis_sets.random_lvis(9)
    generator = torch.Generator().manual_seed(9)
    small, pasted = lvis_sets.random_outputs(content, 9), lvis_sets.random_outputs(content, 9)
    for image, found in small.items():
        found.pred_masks = ROIMasks(torch.rand(len(found), 28, 28, generator=generator))
        pasted[image].pred_masks = found.pred_masks.to_bitmasks(
            found.pred_boxes, *found.image_size
        ).tensor
    evaluator = build_evaluator(register_lvis("lvis_small", content), distributed=False, ap=ap)
    assert evaluator.roi_masks
    expected = evaluate(evaluator, pasted)
    expected_counts = DetectionTable.concatenate(evaluator._tables).counts.tolist()
    blocks, original = [], ROIMasks.to_bitmasks
    monkeypatch.setattr(
        ROIMasks,
        "to_bitmasks",
        lambda self, *args: blocks.append(len(self)) or original(self, *args),
    )
    found = evaluate(evaluator, small)
    for task, metrics in expected.items():
        assert found[task] == pytest.approx(metrics, nan_ok=True)
    assert DetectionTable.concatenate(evaluator._tables).counts.tolist() == expected_counts
    assert blocks == len(small) * ([7, 7, 7, 4] if ap == "fixed" else [7, 7, 1])


def test_pasted_masks_that_do_not_count_are_not_encoded(register_lvis, monkeypatch):
    monkeypatch.setattr(lvis_ap, "PER_IMAGE", 15)  # of 25
    content = lvis_sets.random_lvis(9, images=1)
    encoded, original = [], detection_table.encode_mask
    monkeypatch.setattr(
        detection_table, "encode_mask", lambda mask: encoded.append(mask) or original(mask)
    )
    outputs = lvis_sets.random_outputs(content, 9, masks=True)
    evaluate(build_evaluator(register_lvis("lvis_lazy", content), distributed=False), outputs)
    assert len(encoded) == 15


def test_the_cuts_matter(register_lvis):
    """More than 300 detections of an image count for fixed AP and not for standard AP."""
    content = lvis_sets.random_lvis(4, images=1)
    target = content["annotations"][0]
    (x, y, w, h), label = target["bbox"], target["category_id"] - 1
    others = [c for c in range(6) if c != label]
    boxes = [[0, 0, 9, 9]] * 350 + [[x, y, x + w, y + h]]
    labels = [others[k % 5] for k in range(350)] + [label]
    scores = [0.9] * 350 + [0.1]
    outputs = {3: lvis_sets.make_instances(boxes, scores, labels)}
    name = register_lvis("lvis_cut", content)
    fixed = evaluate(build_evaluator(name, distributed=False, ap="fixed"), outputs)["bbox_fixed"]
    standard = evaluate(build_evaluator(name, distributed=False, ap="standard"), outputs)["bbox"]
    assert fixed["AP"] > 0
    assert standard["AP"] == 0


def test_files_and_class_checks(register_lvis, tmp_path):
    content = lvis_sets.random_lvis(6, images=3)
    outputs = lvis_sets.random_outputs(content, 6, per_image=4, masks=True)
    name = register_lvis("lvis_files", content)
    evaluator = build_evaluator(name, output_dir=str(tmp_path / "out"), distributed=False)
    evaluate(evaluator, outputs)
    rows = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert len(rows) == 12
    assert [row["image_id"] for row in rows] == [3] * 4 + [10] * 4 + [17] * 4
    first = outputs[3]
    assert rows[0]["category_id"] == int(first.pred_classes[0]) + 1
    assert rows[0]["segmentation"]["size"] == [lvis_sets.HEIGHT, lvis_sets.WIDTH]
    evaluator.reset()
    first.pred_classes[0] = 6
    with pytest.raises(DataError, match="image 10: a prediction has class 6, but .* 6 classes"):
        evaluator.process([{"image_id": 10}], [{"instances": first}])


def test_without_annotations_the_results_are_written_only(register_lvis, tmp_path):
    content = lvis_sets.random_lvis(8, images=1)
    outputs = lvis_sets.random_outputs(content, 8, per_image=3)
    content["annotations"] = []
    name = register_lvis("lvis_test_set", content)
    assert evaluate(build_evaluator(name, str(tmp_path), distributed=False), outputs) == {}
    assert len(json.loads((tmp_path / "lvis_instances_results.json").read_text())) == 3
