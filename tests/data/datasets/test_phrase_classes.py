"""Detectron2's tools/visualize_data.py on captions: its labels are the phrases of the boxes."""

import json
from itertools import chain

import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_train_loader,
)
from detectron2.data import detection_utils as utils
from detectron2.utils.visualizer import Visualizer

from glipv2_d2.data import (
    build_grounding_train_loader,
    load_records,
    register_grounding_dataset,
)
from glipv2_d2.language.class_names import detection_classes
from tests.support.record_mapping import make_mapper


@pytest.fixture
def drawn(monkeypatch):
    """The labels of every picture that Detectron2's Visualizer draws."""
    labels, overlay = [], Visualizer.overlay_instances

    def spy(self, **options):
        labels.append(options["labels"])
        return overlay(self, **options)

    monkeypatch.setattr(Visualizer, "overlay_instances", spy)
    return labels


@pytest.fixture
def second(datasets, mdetr_json, images):
    """Another grounding set, whose phrases come in another order."""
    content = json.loads(mdetr_json.read_text())
    content["annotations"].reverse()
    content["annotations"][-1]["tokens_positive"] = [[4, 8], [23, 32]]
    path = mdetr_json.with_name("second.json")
    path.write_text(json.dumps(content))
    register_grounding_dataset("tiny_second", str(path), str(images))
    return "tiny_second"


def phrases(record):
    return [
        " ".join(record["caption"][start:end] for start, end in annotation["spans"])
        for annotation in record["annotations"]
    ]


def test_annotations(datasets, second, drawn):
    """--source annotation, over two data sets: it draws both with the names of the first."""
    names = (datasets[1], second)
    metadata = MetadataCatalog.get(names[0])
    dicts = list(chain.from_iterable(DatasetCatalog.get(name) for name in names))
    for record in dicts[::6]:
        image = utils.read_image(record["file_name"], "RGB")
        picture = Visualizer(image, metadata=metadata, scale=1.0).draw_dataset_dict(record)
        assert not np.array_equal(picture.get_image(), image)
    assert drawn == [phrases(record) for record in dicts[::6]]
    assert ["blue ring", "star"] in drawn and ["star", "blue ring"] in drawn
    assert ["star", "star blue ring"] in drawn  # a box of two phrases


def test_loader(datasets, drawn):
    """--source dataloader: Detectron2's loader and mapper."""
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (datasets[1],)
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 2
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    batch = next(iter(build_detection_train_loader(cfg)))
    for item in batch:
        image = item["image"].permute(1, 2, 0).numpy()
        image = utils.convert_image_to_rgb(image, cfg.INPUT.FORMAT)
        fields = item["instances"].get_fields()
        labels = [metadata.thing_classes[i] for i in fields["gt_classes"]]
        Visualizer(image, metadata=metadata, scale=1.0).overlay_instances(
            labels=labels, boxes=fields["gt_boxes"], masks=None, keypoints=None
        )
        assert labels == ["blue ring", "star"]
    assert len(drawn) == 2


def test_phrases_are_no_classes_to_train_on(datasets, tokenizer):
    """The data set goes on to be one of captions: each has a prompt of its own."""
    assert len(load_records(datasets[1])) == 12
    assert detection_classes(datasets[1]) is None
    loader = build_grounding_train_loader(
        datasets[1], mapper=make_mapper(tokenizer), total_batch_size=2, seed=0
    )
    sample = next(iter(loader))[0]
    assert sample["prompt"].kind == "grounding" and sample["prompt"].caption.startswith("the star")
    assert sample["instances"].gt_classes.tolist() == [1, 0]  # in the caption's order


def test_spans_that_are_none(datasets, mdetr_json):
    content = json.loads(mdetr_json.read_text())
    content["annotations"][0]["tokens_positive"] = [3]
    mdetr_json.write_text(json.dumps(content))
    records = DatasetCatalog.get(datasets[1])
    names = MetadataCatalog.get(datasets[1]).thing_classes
    assert [names[a["category_id"]] for a in records[0]["annotations"]] == ["?", "star"]
    assert sum(len(r["annotations"]) for r in load_records(datasets[1])) == 23
