"""LVIS AP against a brute-force computation and against the authors' package."""

import json
import types

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_lvis_instances
from detectron2.structures import ROIMasks

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import build_evaluator, detection_table, lvis_ap
from glipv2_d2.evaluation.coco_truth import mask_area
from glipv2_d2.evaluation.detection_table import DetectionTable
from tests.support import lvis_sets


@pytest.fixture
def register_lvis(tmp_path):
    registered = []

    def _register(name, content):
        path = lvis_sets.write_lvis(content, tmp_path / f"{name}.json")
        register_lvis_instances(name, {}, path, str(tmp_path))
        registered.append(name)
        return name

    yield _register
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def run(evaluator, outputs, order=None, batch=1):
    ids = list(outputs) if order is None else [list(outputs)[i] for i in order]
    evaluator.reset()
    for start in range(0, len(ids), batch):
        chunk = ids[start : start + batch]
        evaluator.process(
            [{"image_id": i} for i in chunk], [{"instances": outputs[i]} for i in chunk]
        )
    return evaluator.evaluate()


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
    found = run(build_evaluator(name, distributed=False), outputs)
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
    found = run(evaluator, outputs)
    assert set(found) == {"bbox_fixed"}
    brute = percent(lvis_sets.brute_force(content, expected))
    assert found["bbox_fixed"] == pytest.approx(brute, abs=1e-9, nan_ok=True)
    authors = authors_metrics(content, expected, tmp_path / "authors.json", "bbox")
    assert found["bbox_fixed"] == pytest.approx(authors, abs=1e-9, nan_ok=True)
    assert len(DetectionTable.concatenate(evaluator._tables)) <= 30 * 6  # dropped on the way
    order = np.random.default_rng(seed).permutation(len(outputs))
    again = run(evaluator, outputs, order, batch=3)
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
    expected = run(evaluator, pasted)
    expected_counts = DetectionTable.concatenate(evaluator._tables).counts.tolist()
    blocks, original = [], ROIMasks.to_bitmasks
    monkeypatch.setattr(
        ROIMasks,
        "to_bitmasks",
        lambda self, *args: blocks.append(len(self)) or original(self, *args),
    )
    found = run(evaluator, small)
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
    run(build_evaluator(register_lvis("lvis_lazy", content), distributed=False), outputs)
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
    fixed = run(build_evaluator(name, distributed=False, ap="fixed"), outputs)["bbox_fixed"]
    standard = run(build_evaluator(name, distributed=False, ap="standard"), outputs)["bbox"]
    assert fixed["AP"] > 0
    assert standard["AP"] == 0


def test_areas_of_more_masks_than_a_byte_counts():
    """With NumPy 2 pycocotools fails at 256 masks."""
    masks = np.zeros((600, 30, 40), dtype=bool)
    for k, mask in enumerate(masks):
        mask.flat[:k] = True
    outputs = lvis_sets.make_instances([[0, 0, 9, 9]] * 600, [0.5] * 600, [0] * 600)
    outputs.pred_masks = torch.from_numpy(masks)
    table = DetectionTable.from_instances(0, np.zeros(600), outputs)
    assert table.mask_areas(np.array([[30, 40]])).tolist() == list(range(600))


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
    (metrics,) = run(build_evaluator(name, distributed=False, ap=ap), outputs).values()
    for metric in ("AP", "AP50", "AP75", "APr"):
        assert metrics[metric] == pytest.approx(expected)
    assert np.isnan(metrics["APc"])  # the other class has no object


def test_where_a_class_is_not_exhaustive_false_alarms_are_ignored(register_lvis):
    content = hand_content()
    content["images"][0]["not_exhaustive_category_ids"] = [1]
    name = register_lvis("lvis_open", content)
    outputs = {i: lvis_sets.make_instances([], [], []) for i in (10, 17)}
    outputs[3] = lvis_sets.make_instances([NOWHERE, FIRST, SECOND], [0.9, 0.8, 0.7], [0, 0, 0])
    metrics = run(build_evaluator(name, distributed=False), outputs)["bbox"]
    assert metrics["AP"] == pytest.approx(100.0)


def test_files_and_image_checks(register_lvis, tmp_path):
    content = lvis_sets.random_lvis(6, images=3)
    outputs = lvis_sets.random_outputs(content, 6, per_image=4, masks=True)
    name = register_lvis("lvis_files", content)
    evaluator = build_evaluator(name, output_dir=str(tmp_path / "out"), distributed=False)
    run(evaluator, outputs)
    rows = json.loads((tmp_path / "out" / "lvis_instances_results.json").read_text())
    assert len(rows) == 12
    assert [row["image_id"] for row in rows] == [3] * 4 + [10] * 4 + [17] * 4
    first = outputs[3]
    assert rows[0]["category_id"] == int(first.pred_classes[0]) + 1
    assert rows[0]["segmentation"]["size"] == [lvis_sets.HEIGHT, lvis_sets.WIDTH]
    evaluator.reset()
    with pytest.raises(DataError, match=r"3 of 3 images were not evaluated.*first: 3"):
        evaluator.evaluate()
    evaluator.process([{"image_id": 3}], [{"instances": first}])
    with pytest.raises(DataError, match="evaluated twice"):
        evaluator.process([{"image_id": 3}], [{"instances": first}])
    with pytest.raises(DataError, match="no image 4"):
        evaluator.process([{"image_id": 4}], [{"instances": first}])
    first.pred_classes[0] = 6
    with pytest.raises(DataError, match="image 10: a prediction has class 6, but .* 6 classes"):
        evaluator.process([{"image_id": 10}], [{"instances": first}])


def test_what_has_one_meaning_is_filled_in(register_lvis):
    content = lvis_sets.random_lvis(9, images=3)
    outputs = lvis_sets.random_outputs(content, 9, per_image=4)
    for entry in content["annotations"]:
        outline = entry["segmentation"]
        entry["area"] = mask_area(outline, lvis_sets.HEIGHT, lvis_sets.WIDTH)
    sound = build_evaluator(register_lvis("lvis_sound", content), distributed=False)
    for entry in content["annotations"]:
        del entry["area"], entry["id"]
        entry["image_id"], entry["bbox"] = str(entry["image_id"]), list(map(str, entry["bbox"]))
    bare = build_evaluator(register_lvis("lvis_bare", content), distributed=False)
    assert bare.truth.areas.tolist() == sound.truth.areas.tolist()
    found, expected = run(bare, outputs)["bbox"], run(sound, outputs)["bbox"]
    assert found == pytest.approx(expected, nan_ok=True) and found["AP"] > 0


def test_bad_annotations_are_named(register_lvis):
    content = lvis_sets.random_lvis(7, images=1)
    content["annotations"][0]["image_id"] = 5
    with pytest.raises(DataError, match="annotation 1 belongs to image 5"):
        build_evaluator(register_lvis("lvis_lost", content))
    del content["images"][0]["neg_category_ids"]
    content["annotations"] = []
    with pytest.raises(DataError, match="'neg_category_ids' is missing"):
        build_evaluator(register_lvis("lvis_field", content))
    content["annotations"] = None
    with pytest.raises(DataError, match="'annotations' is not a list"):
        build_evaluator(register_lvis("lvis_null", content))
    with pytest.raises(ValueError, match="ap must be one of"):
        build_evaluator(register_lvis("lvis_rule", lvis_sets.random_lvis(7)), ap="odd")


def test_without_annotations_the_results_are_written_only(register_lvis, tmp_path):
    content = lvis_sets.random_lvis(8, images=1)
    outputs = lvis_sets.random_outputs(content, 8, per_image=3)
    content["annotations"] = []
    name = register_lvis("lvis_test_set", content)
    assert run(build_evaluator(name, str(tmp_path), distributed=False), outputs) == {}
    assert len(json.loads((tmp_path / "lvis_instances_results.json").read_text())) == 3
