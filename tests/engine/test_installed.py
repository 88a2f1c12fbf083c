"""The predictor, `glip` and Detectron2's doors, from a wheel outside the clone."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny_data import losses, write_tiny_data
from tests.support.wheel_fixtures import pip

# Through the predictor, then the same weights through build_model and DefaultPredictor, then
# through `glip`: in one process, since starting some is what takes the time.
CODE = """
import cv2, glipv2_d2, os, torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

names = ["red star", "blue ring"]
predictor = glipv2_d2.model_zoo.get("glip_scenes", score_threshold=0.0)
predictor.merge_iou = None
found = predictor("image.png", names)[0]
torch.save({"model": predictor.model.state_dict()}, "weights.pth")

MetadataCatalog.get("mine").thing_classes = names
cfg = get_cfg()
glipv2_d2.add_glip_config(cfg)
cfg.MODEL.META_ARCHITECTURE = "GLIP"
cfg.MODEL.GLIP.CONFIG = "demo/scenes.py"
cfg.MODEL.DEVICE = "cpu"
cfg.MODEL.WEIGHTS = "weights.pth"
cfg.DATASETS.TEST = ("mine",)
cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 192, 320
assert type(build_model(cfg)).__name__ == "GLIP"
stock = DefaultPredictor(cfg)(cv2.imread("image.png"))["instances"]
assert len(stock) == len(found), (len(stock), len(found))
torch.testing.assert_close(stock.scores.sort().values, found.scores.sort().values)
os.remove("weights.pth")

from glip_commands.main import main
prompt = "a [red star] left of a [blue ring]"
assert main(["detect", "image.png", "--prompt", prompt, "--output", "out"]) == 0
"""
TRAIN = """
from glip_commands.main import main

own = ["--config-file", "mine.py", "--num-gpus", "0"]
assert main(["train", *own]) == 0
print("=== eval")
weights = ["--weights", "run/model_final.pth", "train.output_dir=evaluation"]
assert main(["eval", *own, *weights]) == 0
"""


# A config of one's own, as README.md has it, on the demo's small model.
CONFIG = """
from glipv2_d2.config import get_config
from glipv2_d2.data import register_coco_dataset

register_coco_dataset("mine", "tiny.json", ".")
config = get_config("demo/scenes.py")
model, train, optimizer = config.model, config.train, config.optimizer
lr_multiplier, inference, dataloader = config.lr_multiplier, config.inference, config.dataloader
del dataloader.further_tests
dataloader.train.datasets, dataloader.test.dataset = ["mine"], "mine"
dataloader.train.total_batch_size, dataloader.train.num_workers = 2, 0
train.max_iter, train.output_dir, train.eval_period = 2, "run", -1
train.ema.enabled, train.checkpointer.period = False, 10  # of a model of 120 MB
lr_multiplier.warmup_iters = 1
"""


@pytest.fixture(scope="module")
def run(wheel, module_path):
    """Python with the installed wheel, in a folder outside the clone; returns what was printed."""
    folder = module_path / "outside"
    folder.mkdir()
    site = folder / "site"
    pip("install", "--no-deps", "--target", str(site), str(wheel))

    def run(*command):
        result = subprocess.run(
            [sys.executable, "-W", "ignore", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run.folder = folder
    return run


@pytest.mark.slow
def test_a_wheel_detects_outside_the_clone(run):
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(run.folder / "image.png")
    run("-c", CODE)
    assert (run.folder / "out" / "image.jpg").is_file()
    report = json.loads((run.folder / "out" / "detections.json").read_text())
    assert str(run.folder) in report["weights"]  # those of the wheel


@pytest.mark.slow
def test_a_wheel_trains_and_evaluates_outside_the_clone(run):
    write_tiny_data(run.folder, images=4)
    (run.folder / "mine.py").write_text(CONFIG)
    assert "copypaste" in run("-c", TRAIN).partition("=== eval\n")[2]
    assert set(losses(run.folder / "run")) == {1}  # the last of two
    assert (run.folder / "evaluation" / "results.md").is_file()
