"""One training step and one evaluation through train_net.py for each data set format."""

import json

import pytest

from glipv2_d2.data import (
    register_coco_dataset,
    register_detection_dataset,
    register_grounding_dataset,
)
from tests.support.detection_exports import every_export
from tests.support.pretraining_files import BOXES, CAPTION, HEIGHT, WIDTH, encoded_image
from tests.support.tiny_data import losses

COUNT = 4


@pytest.fixture
def jpegs(tmp_path):
    for i in range(COUNT):
        (tmp_path / f"{i}.jpg").write_bytes(encoded_image(i))
    return tmp_path


def entries():
    return [
        {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(COUNT)
    ]


def annotation(i, **fields):
    return {"id": i, "image_id": i, "bbox": [5, 5, 30, 40], "iscrowd": 0, **fields}


def coco(folder, name):
    content = {
        "images": [{**image, "neg_category_ids": [2]} for image in entries()],
        "annotations": [annotation(i, category_id=1) for i in range(COUNT)],
        "categories": [{"id": 1, "name": "caterpillar"}, {"id": 2, "name": "leaf"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    register_coco_dataset(name, str(folder / "coco.json"), str(folder))


def mdetr(folder, name):
    content = {
        "images": [{**image, "caption": CAPTION} for image in entries()],
        "annotations": [annotation(i, tokens_positive=[[2, 13]]) for i in range(COUNT)],
        "categories": [],
    }
    (folder / "mdetr.json").write_text(json.dumps(content))
    register_grounding_dataset(name, str(folder / "mdetr.json"), str(folder))


def odvg(folder, name):
    lines = []
    for i in range(COUNT):
        line = {"filename": f"{i}.jpg", "height": HEIGHT, "width": WIDTH}
        if i % 2:
            region = {"bbox": BOXES[0], "phrase": "caterpillar"}
            line["grounding"] = {"caption": CAPTION, "regions": [region]}
        else:
            instance = {"bbox": BOXES[0], "label": 0, "category": "leaf"}
            line["detection"] = {"instances": [instance]}
        lines.append(json.dumps(line) + "\n")
    (folder / "odvg.jsonl").write_text("".join(lines))
    register_grounding_dataset(name, str(folder / "odvg.jsonl"), str(folder), "odvg")


def train_and_evaluate(run_train_net, name):
    folder = run_train_net(
        "train.max_iter=1", "train.eval_period=1", f"dataloader.train.datasets=[{name}]"
    )
    values = losses(folder)
    assert len(values) == 1 and 0 < values[0] < 100
    metrics = (folder / "metrics.json").read_text()
    assert "bbox/AP" in metrics


def test_train_on_the_export_of_every_labeling_tool(run_train_net, tmp_path):
    """All at once, evaluated on one that has no json of COCO's."""
    names = []
    for _, write in every_export():
        names.append(write.__name__)
        (tmp_path / names[-1]).mkdir()
        register_detection_dataset(names[-1], write(tmp_path / names[-1]))
    folder = run_train_net(
        "train.max_iter=2",
        "train.eval_period=2",
        f"dataloader.train.datasets={names}",
        "dataloader.train.total_batch_size=12",
        "dataloader.test.dataset=label_studio",
        "dataloader.evaluator.dataset_name=label_studio",
    )
    values = losses(folder)
    assert len(values) == 2 and all(0 < value < 100 for value in values.values())
    assert "bbox/AP" in (folder / "metrics.json").read_text()


@pytest.mark.parametrize("make", [coco, mdetr, odvg])
def test_annotations_of_images(run_train_net, jpegs, make):
    name = f"tiny_{make.__name__}"
    make(jpegs, name)
    train_and_evaluate(run_train_net, name)


def test_glip_tsv(run_train_net, caption_tsv):
    register_grounding_dataset("tiny_tsv", str(caption_tsv), "", "glip_tsv")
    train_and_evaluate(run_train_net, "tiny_tsv")


def test_webdataset(run_train_net, shards):
    register_grounding_dataset("tiny_shards", str(shards / "*.tar"), "", "webdataset")
    train_and_evaluate(run_train_net, "tiny_shards")
