"""Registers small COCO data sets and makes predictions for them."""

import json

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances

SIZE = 64


@pytest.fixture
def register(tmp_path):
    """register(name, class names, [[(class index, xywh), ...] per image], **metadata) -> name."""
    registered = []

    def _register(name, classes, images, **metadata):
        annotations = [
            {
                "id": 100 * i + j + 1,
                "image_id": i + 1,
                "category_id": 10 * (index + 1),  # ids with gaps, as COCO's own
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for i, objects in enumerate(images)
            for j, (index, box) in enumerate(objects)
        ]
        content = {
            "info": {},
            "images": [
                {"id": i + 1, "file_name": f"{i}.jpg", "height": SIZE, "width": SIZE}
                for i in range(len(images))
            ],
            "annotations": annotations,
            "categories": [{"id": 10 * (i + 1), "name": n} for i, n in enumerate(classes)],
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        register_coco_instances(name, metadata, str(path), str(tmp_path))
        registered.append(name)
        DatasetCatalog.get(name)
        return name

    yield _register
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def instances():
    """instances([(class index, xywh, score), ...]) -> Instances."""

    def _instances(predictions):
        result = Instances((SIZE, SIZE))
        boxes = [[x, y, x + w, y + h] for _, (x, y, w, h), _ in predictions]
        result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        result.scores = torch.tensor([score for _, _, score in predictions])
        result.pred_classes = torch.tensor([c for c, _, _ in predictions], dtype=torch.int64)
        return result

    return _instances


@pytest.fixture
def evaluate():
    """evaluate(evaluator, [Instances per image]) -> results."""

    def _evaluate(evaluator, outputs):
        evaluator.reset()
        for image_id, output in enumerate(outputs, start=1):
            evaluator.process([{"image_id": image_id}], [{"instances": output}])
        return evaluator.evaluate()

    return _evaluate
