"""Detections in the real packages of others."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import annotations_to_instances
from detectron2.structures import BitMasks, Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from glipv2_d2.errors import MissingPackageError
from glipv2_d2.interop import FORMATS, Labels, to_fiftyone, to_supervision, to_torchmetrics
from glipv2_d2.language.phrase_list import PhraseList

NAMES = ["cat", "red kite"]


def random_instances(seed, count=6, masks=False):
    """Boxes of at least 8 pixels; their masks are them, less a corner."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 33, (count, 2))], 1).round(2)
    classes = rng.integers(0, 2, count)
    instances = Instances((64, 80))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    instances.scores = torch.tensor(rng.uniform(0, 1, count).round(4), dtype=torch.float32)
    instances.pred_classes = torch.tensor(classes)
    instances.pred_phrases = PhraseList(NAMES[i] for i in classes)
    if masks:
        instances.pred_masks = torch.zeros(count, 64, 80, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(instances.pred_masks, boxes.round().astype(int)):
            mask[y0:y1, x0:x1] = True
            mask[y0, x0] = False
    return instances


def moved(instances, seed):
    """The truth near what is found."""
    boxes = instances.pred_boxes.tensor.numpy()
    boxes = (boxes + np.random.default_rng(seed).normal(0, 2, boxes.shape)).clip(0, 64).round(2)
    truth = Instances(instances.image_size)
    truth.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    truth.gt_classes = instances.pred_classes
    return truth


def test_supervision_has_phrases_scores_and_masks():
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    instances = random_instances(0, masks=True)
    found = to_supervision(instances)
    assert found["class_name"].tolist() == instances.pred_phrases
    cats = found[found["class_name"] == "cat"]
    chosen = instances[instances.pred_classes == 0]
    assert np.array_equal(cats.xyxy, chosen.pred_boxes.tensor.numpy())
    assert np.array_equal(cats.mask, chosen.pred_masks.numpy())
    assert np.array_equal(cats.confidence, chosen.scores.numpy())
    empty = to_supervision(instances[:0])
    assert len(empty) == 0 and len(sv.Detections.merge([found, empty])) == 6
    pixels = np.zeros((64, 80, 3), np.uint8)
    drawn = sv.LabelAnnotator().annotate(sv.MaskAnnotator().annotate(pixels.copy(), found), found)
    assert (drawn != pixels).any() and drawn.shape == pixels.shape


def test_fiftyone_has_boxes_in_parts_of_the_image(monkeypatch):
    """The package alone is 1 GB with its database: its labels are stood in for here."""
    labels = SimpleNamespace(Detection=SimpleNamespace, Detections=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "fiftyone", labels)
    instances = random_instances(1, masks=True)
    for i, found in enumerate(to_fiftyone(instances).detections):
        x, y, w, h = found.bounding_box
        box = [x * 80, y * 64, (x + w) * 80, (y + h) * 64]
        torch.testing.assert_close(torch.tensor(box), instances.pred_boxes.tensor[i])
        assert found.label == instances.pred_phrases[i]
        assert found.confidence == instances.scores[i].item()
        assert found.mask.sum() == instances.pred_masks[i].sum()
        assert abs(found.mask.shape[0] - h * 64) < 2 and abs(found.mask.shape[1] - w * 80) < 2
    assert not hasattr(to_fiftyone(random_instances(1)).detections[0], "mask")


def test_torchmetrics_finds_the_ap_of_pycocotools(tmp_path):
    """The same numbers, through `coco-results` and `coco`. torchmetrics has its thresholds in
    float32, which alone makes 0.0008 here; pycocotools takes them over."""
    detection = pytest.importorskip("torchmetrics.detection", reason="torchmetrics is missing")
    found = [random_instances(seed) for seed in range(8)]
    truth = [moved(instances, seed) for seed, instances in enumerate(found)]
    metric = detection.MeanAveragePrecision()
    metric.update([*map(to_torchmetrics, found)], [*map(to_torchmetrics, truth)])
    score = metric.compute()
    files = [f"{i}.png" for i in range(8)]
    for format, instances in (("coco-results", found), ("coco", map(as_found, truth))):
        (tmp_path / format).mkdir()
        labels = Labels.from_instances(zip(files, instances), NAMES)
        FORMATS[format](labels, tmp_path / format)
    coco = COCO(str(tmp_path / "coco" / "annotations.json"))
    results = json.loads((tmp_path / "coco-results" / "results.json").read_text())
    evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
    evaluation.params.iouThrs = np.array(metric.iou_thresholds)
    evaluation.params.recThrs = np.array(metric.rec_thresholds)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.1 < score["map"] < 0.9
    assert score["map"].item() == pytest.approx(evaluation.stats[0], abs=1e-6)
    assert score["map_50"].item() == pytest.approx(evaluation.stats[1], abs=1e-6)


def as_found(truth):
    fields = {"pred_boxes": truth.gt_boxes, "pred_classes": truth.gt_classes}
    fields["scores"] = torch.ones(len(truth))
    fields["pred_phrases"] = PhraseList(NAMES[i] for i in truth.gt_classes.tolist())
    return Instances(truth.image_size, **fields)


@pytest.mark.parametrize("format", ["polygon", "bitmask"])
def test_masks_of_a_record_are_those_of_what_is_found(format):
    found = random_instances(2, count=1, masks=True)
    corners = [10.0, 10, 40, 10, 40, 30, 10, 30]
    record = {"bbox": [10, 10, 30, 20], "bbox_mode": 1, "category_id": 0, "segmentation": [corners]}
    truth = annotations_to_instances([record], (64, 80), mask_format=format)
    result = to_torchmetrics(truth)
    assert set(result) == {"boxes", "labels", "masks"}
    assert result["masks"].shape == to_torchmetrics(found)["masks"].shape
    assert result["masks"].sum() == 600 and isinstance(truth.gt_masks, BitMasks) == (
        format == "bitmask"
    )


@pytest.mark.parametrize(
    "name, convert", [("supervision", to_supervision), ("fiftyone", to_fiftyone)]
)
def test_a_package_that_is_missing(name, convert, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=f"'{name}' is not installed: pip install {name}"):
        convert(random_instances(3))
