"""PhraseCut's overlaps on hand-worked tasks: masks, boxes as masks, boxes, missing predictions."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as mask_util

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation import PhraseCutEvaluator, build_evaluator
from glipv2_d2.evaluation.phrasecut import authors_fill, fill_boxes, rasterize
from tests.support.benchmark_predictions import (
    HEIGHT,
    WIDTH,
    evaluate,
    instances,
    record,
    registered,
)

SIZE = (HEIGHT, WIDTH)


def block(x0, y0, x1, y1):
    mask = np.zeros(SIZE, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def polygon(x0, y0, x1, y1):
    """A polygon whose pixels by the authors' rule are the block: corners and outline included."""
    return [x0, y0, x1 - 1, y0, x1 - 1, y1 - 1, x0, y1 - 1]


def task(image_id, *boxes):
    """A record whose true masks are these blocks."""
    result = record(image_id, list(boxes), phrases=(((0, 22),),), task_id=f"{image_id}__1")
    for annotation, box in zip(result["annotations"], boxes):
        annotation["segmentation"] = [polygon(*box)]
    return result


def predicted(masks, scores, boxes=None):
    boxes = [(0, 0, 9, 9)] * len(masks) if boxes is None else boxes
    return instances(boxes, scores, masks=masks)


A, B = (10, 10, 30, 30), (50, 10, 70, 30)  # 400 pixels each
TASKS = [task(1, A, B), task(2, A), task(3, A), task(4, A)]
OUTPUTS = {
    # Both halves are found by two masks that overlap: IoU 1.
    1: predicted([block(10, 10, 70, 30) & ~block(30, 10, 50, 30), block(*A)], [0.9, 0.6]),
    # Half of it: IoU exactly 0.5, which is not above 0.5.
    2: predicted([block(10, 10, 30, 20)], [0.9]),
    # 100 pixels more: IoU 0.8; the second mask is below the score threshold.
    3: predicted([block(10, 10, 35, 30), block(0, 0, 200, 150)], [0.9, 0.5]),
    4: predicted([block(*A)], [0.3]),
}
# intersection / union: 800 / 800, 200 / 400, 400 / 500, 0 / 400
EXPECTED = {
    "mIoU": 100 * (1 + 0.5 + 0.8 + 0) / 4,
    "cumIoU": 100 * 1400 / 2100,
    "P@0.5": 50,
    "P@0.6": 50,
    "P@0.7": 50,
    "P@0.8": 25,
    "P@0.9": 25,
}


def test_masks():
    with registered("cuts", TASKS, "phrasecut"):
        results = evaluate(build_evaluator("cuts", distributed=False), OUTPUTS)
    assert set(results) == {"phrasecut_mask", "phrasecut_box"}
    assert results["phrasecut_mask"] == pytest.approx(EXPECTED)


def test_tasks_without_prediction_can_be_left_out():
    with registered("cuts", TASKS, "phrasecut"):
        evaluator = build_evaluator("cuts", distributed=False, skip_without_prediction=True)
        results = evaluate(evaluator, OUTPUTS)["phrasecut_mask"]
    assert results["mIoU"] == pytest.approx(100 * 2.3 / 3)
    assert results["cumIoU"] == pytest.approx(100 * 1400 / 1700)
    assert results["P@0.7"] == pytest.approx(200 / 3)


def test_the_score_threshold_is_an_option():
    with registered("cuts", TASKS, "phrasecut"):
        evaluator = build_evaluator("cuts", distributed=False, score_threshold=0.2)
        results = evaluate(evaluator, OUTPUTS)["phrasecut_mask"]
    # Task 4 is found now, and task 3 is covered by the mask of the whole image.
    assert results["mIoU"] == pytest.approx(100 * (1 + 0.5 + 400 / (HEIGHT * WIDTH) + 1) / 4)


def test_boxes_stand_in_for_masks_and_are_named():
    outputs = {1: instances([A, B], [0.9, 0.8]), 2: instances([(10, 10, 30, 20)], [0.9])}
    with registered("cuts", TASKS[:2], "phrasecut"):
        results = evaluate(build_evaluator("cuts", distributed=False), outputs)
    assert set(results) == {"phrasecut_box_as_mask", "phrasecut_box"}
    assert results["phrasecut_box_as_mask"]["mIoU"] == pytest.approx(75)
    # The authors end a box one column and row early: 19 x 19 and 19 x 9 pixels.
    assert results["phrasecut_box"]["mIoU"] == pytest.approx(50 * (1 + 9 / 19))
    assert results["phrasecut_box"]["P@0.5"] == pytest.approx(50)


def test_true_masks_of_the_authors_file(tmp_path):
    """Two polygons of one instance, of which MDETR's json keeps the last."""
    refer = [
        {
            "task_id": "1__1",
            "image_id": 1,
            "instance_boxes": [[10, 10, 60, 20]],
            "Polygons": [
                [np.reshape(polygon(*box), (4, 2)).tolist() for box in (A, B)],
            ],
        }
    ]
    path = tmp_path / "refer_test.json"
    path.write_text(json.dumps(refer))
    records, outputs = [task(1, B)], {1: predicted([block(*B)], [0.9])}
    with registered("cuts", records, "phrasecut", refer_json=str(tmp_path / "absent.json")):
        lossy = evaluate(build_evaluator("cuts", distributed=False), outputs)
        own = evaluate(build_evaluator("cuts", distributed=False, refer_json=str(path)), outputs)
    assert lossy["phrasecut_mask"]["mIoU"] == pytest.approx(100)
    assert own["phrasecut_mask"]["mIoU"] == pytest.approx(50)
    with registered("cuts", [task(2, B)], "phrasecut"):
        with pytest.raises(DataError, match=r"task '2__1' \(image 2\).*refer_json"):
            PhraseCutEvaluator("cuts", refer_json=str(path))
        with pytest.raises(DataError, match="no file .*absent"):
            PhraseCutEvaluator("cuts", refer_json=str(tmp_path / "absent.json"))
        path.write_text("[{}]")
        with pytest.raises(DataError, match="not PhraseCut's"):
            PhraseCutEvaluator("cuts", refer_json=str(path))


def test_the_authors_rasterizer():
    corners = [10.7, 10.2, 40.9, 12.1, 30.3, 35.8]
    image = Image.new("L", (WIDTH, HEIGHT), 0)
    ImageDraw.Draw(image).polygon([(10, 10), (40, 12), (30, 35)], outline=1, fill=1)
    assert (rasterize([corners], SIZE) == np.asarray(image, dtype=bool)).all()
    both = rasterize([corners, polygon(*B)], SIZE)
    assert (both == (np.asarray(image, dtype=bool) | block(*B))).all()
    assert not rasterize([[5.0, 5.0]], SIZE).any()


def test_filled_boxes():
    # Centers of pixels 10 ... 19 lie between 10.5 and 20.4; a box may stick out of the image.
    assert (fill_boxes(np.array([[10.5, 9.6, 20.4, 12]]), SIZE) == block(10, 10, 20, 12)).all()
    outside = fill_boxes(np.array([[-9, -9, 5, 5], [190, 140, 999, 999]]), SIZE)
    assert (outside == (block(0, 0, 5, 5) | block(190, 140, 200, 150))).all()
    assert (authors_fill([A], SIZE) == block(10, 10, 29, 29)).all()
    assert (authors_fill([(10.6, 10.9, 30.5, 30.5)], SIZE) == block(10, 10, 29, 29)).all()
    assert not fill_boxes(np.zeros((0, 4)), SIZE).any()


def test_dump_holds_the_region(tmp_path):
    with registered("cuts", TASKS, "phrasecut"):
        evaluate(build_evaluator("cuts", output_dir=str(tmp_path), distributed=False), OUTPUTS)
    rows = json.loads((tmp_path / "cuts_predictions.json").read_text())
    assert [row["predictions"] for row in rows] == [2, 1, 1, 0]
    assert rows[1]["task_id"] == "2__1"
    assert mask_util.area(rows[1]["segmentation"]) == 200


def test_bad_input_is_named():
    with registered("cuts", TASKS[:2], "phrasecut"):
        mixed = {1: OUTPUTS[1], 2: instances([A], [0.9])}
        with pytest.raises(DataError, match="some predictions have masks"):
            evaluate(build_evaluator("cuts", distributed=False), mixed)
        small = instances([A], [0.9], masks=[np.ones((4, 4))], size=(4, 4))
        with pytest.raises(DataError, match=r"image 1: .* \(4, 4\), the image \(150, 200\)"):
            evaluate(build_evaluator("cuts", distributed=False), {1: small})
    encoded = task(1, A)
    encoded["annotations"][0]["segmentation"] = {"size": [4, 4], "counts": "04"}
    for bad, message in ((task(3), "no true polygons"), (encoded, "has a dict")):
        with registered("cuts", [bad], "phrasecut"), pytest.raises(DataError, match=message):
            build_evaluator("cuts")
