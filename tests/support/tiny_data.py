"""The tiny data set, the config that trains on it, and how to read what a run left."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CONFIG = Path(__file__).with_name("tiny_train.py")
NAMES = ("red circle", "blue square", "green star")


def write_tiny_data(folder: Path, images: int = 10) -> None:
    """Noise with bright boxes, all images of one size; the last image has no boxes."""
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
    for i in range(images):
        pixels = rng.integers(0, 80, (96, 96, 3), dtype=np.uint8)
        boxes = [] if i == images - 1 else [(6 + i, 8, 20, 24), (30, 30 - i, 26, 20)]
        for k, (x, y, w, h) in enumerate(boxes):
            category = (i + k) % 3
            pixels[y : y + h, x : x + w, category] = 230
            annotation = {"id": len(content["annotations"]) + 1, "image_id": i + 1, "iscrowd": 0}
            annotation.update(category_id=category + 1, bbox=[x, y, w, h], area=w * h)
            content["annotations"].append(annotation)
        name = f"{i:03d}.png"
        Image.fromarray(pixels).save(folder / name)
        content["images"].append({"id": i + 1, "file_name": name, "height": 96, "width": 96})
    (folder / "tiny.json").write_text(json.dumps(content))


def losses(folder: Path) -> dict[int, float]:
    """Iteration -> total loss, from metrics.json (the last entry of an iteration counts)."""
    lines = (folder / "metrics.json").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["iteration"]: r["total_loss"] for r in records if "total_loss" in r}
