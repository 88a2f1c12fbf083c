"""The predictor, the command line and Detectron2's doors, from a wheel outside the clone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_package import pip, wheel  # noqa: F401  (a fixture)

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "glip_scenes.safetensors"

# Through the predictor, then the same weights through build_model and DefaultPredictor.
CODE = """
import cv2, numpy as np, torch, glipv2_d2, sys
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from glipv2_d2.engine.predictor import GroundingPredictor

weights, names = sys.argv[1], ["red star", "blue ring"]
predictor = GroundingPredictor.from_config("demo/scenes.py", weights, score_threshold=0.0)
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
"""


@pytest.mark.slow
def test_a_wheel_detects_outside_the_clone(wheel, tmp_path):  # noqa: F811
    if not WEIGHTS.is_file():
        pytest.skip("there are no shipped weights")
    site = tmp_path / "site"
    pip("install", "--no-deps", "--target", str(site), str(wheel))
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    detect = ["image.png", "--config-file", "demo/scenes.py", "--weights", str(WEIGHTS)]
    detect += ["--prompt", "a [red star] left of a [blue ring]", "--output", "out"]
    for command in (["-c", CODE, str(WEIGHTS)], [str(site / "bin" / "glip-detect"), *detect]):
        result = subprocess.run(
            [sys.executable, "-W", "ignore", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "image.jpg").is_file()
    assert (tmp_path / "out" / "detections.json").is_file()
