"""The vocabulary of a yacs model: the classes of its first test set."""

import json

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import build_model

from glipv2_d2 import add_glip_config
from glipv2_d2.modeling import yacs
from tests.support.tiny import tiny_config


def test_a_yacs_model_reads_the_classes_of_a_coco_set_that_was_not_loaded(tmp_path, monkeypatch):
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "yak"}]}
    path = tmp_path / "yaks.json"
    path.write_text(json.dumps(content))
    register_coco_instances("yaks", {}, str(path), str(tmp_path))
    monkeypatch.setattr(yacs, "load_model_config", lambda name: tiny_config())
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GLIP"
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TEST = ("yaks",)
    try:
        assert build_model(cfg).vocabulary_prompts[0].names == ("yak",)
    finally:
        DatasetCatalog.remove("yaks")
        MetadataCatalog.remove("yaks")
