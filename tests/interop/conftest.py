"""Detections with everything that label files make difficult."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from glipv2_d2.interop import DetectedImage, Detection, Labels

NAMES = ("cat, black", "a/b", "a:b", "Füße & <Schuhe>", "no")


@pytest.fixture(scope="session")
def image_tree(tmp_path_factory):
    """Four images: two of one name in two folders, two of one stem, one with an odd name."""
    root = tmp_path_factory.mktemp("detected")
    for seed, name in enumerate(("a/1.png", "b/1.png", "b/1.bmp", "b/é n,t.gif")):
        (root / name).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (48 + seed, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def _mask(box, height, width):
    mask = np.zeros((height, width), np.uint8, order="F")
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = 1
    mask[y0, x0] = 0  # no rectangle; what surrounds it is the same
    code = mask_util.encode(mask)
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


@pytest.fixture(scope="session")
def make_labels(image_tree):
    """make_labels(masks=False) -> Labels, of which the last image has no detection."""

    def _make(masks=False):
        files = [image_tree / name for name in ("a/1.png", "b/1.png", "b/1.bmp", "b/é n,t.gif")]
        boxes = {
            0: [("cat, black", 0.9, [1, 2, 31, 40]), ("no", 0.25, [10, 20, 64, 48])],
            1: [("a/b", 0.5, [0, 0, 64, 49]), ("a:b", 0.75, [3, 4, 9, 8])],
            2: [("Füße & <Schuhe>", 1.0, [5, 6, 50, 50])],
        }
        images = []
        for i, file in enumerate(files):
            found = [
                Detection(*fields, _mask(fields[2], 48 + i, 64) if masks else None)
                for fields in boxes.get(i, ())
            ]
            images.append(DetectedImage(str(file), 48 + i, 64, found))
        return Labels(images, NAMES)

    return _make
