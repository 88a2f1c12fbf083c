"""A yacs config of the tiny model, and small COCO sets for Detectron2's own loaders."""

import json

import numpy as np
from detectron2.config import LazyConfig, get_cfg
from detectron2.data.datasets import register_coco_instances
from omegaconf import OmegaConf
from PIL import Image

from glipv2_d2 import add_glip_config
from tests.support.tiny import tiny_config

NAMES = ("red heart", "blue star", "red moon")


def tiny_cfg(folder, model=None, train=(), test=(), **keys):
    """`keys`: of the yacs config, with __ for a dot; `model`: a LazyConfig node."""
    path = folder / "model.yaml"
    node = OmegaConf.create({"model": model or tiny_config()}, flags={"allow_objects": True})
    LazyConfig.save(node, str(path))
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GLIP"
    cfg.MODEL.GLIP.CONFIG = str(path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = train, test
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (64,), 96
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 96
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 2, 2, 1e-3
    cfg.OUTPUT_DIR = str(folder / "output")
    cfg.merge_from_list([x for key, value in keys.items() for x in (key.replace("__", "."), value)])
    cfg.freeze()
    return cfg


def register_sets(folder, **sets):
    """COCO sets of three 64x64 images; `sets`: name -> (class names, names of an image's boxes).

    Registered as a user does it: the catalog learns the class names when the json is read.
    """
    for dataset, (names, boxes) in sets.items():
        register_coco_instances(dataset, {}, _write(folder, dataset, names, boxes), str(folder))


def _write(folder, dataset, names, boxes):
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": []}
    content["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    for image in range(1, 4):
        file = f"{dataset}_{image}.png"
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / file)
        content["images"].append({"id": image, "file_name": file, "height": 64, "width": 64})
        for k, name in enumerate(boxes):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image,
                    "category_id": names.index(name) + 1,
                    "bbox": [2 + k % 30, 4 + k % 25, 24, 30],
                    "area": 720,
                    "iscrowd": 0,
                }
            )
    path = folder / f"{dataset}.json"
    path.write_text(json.dumps(content))
    return str(path)
