"""The tiny data set, the config that trains on it, and how to read what a run left."""

import json
from pathlib import Path

import numpy as np
import torch
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


def differences(a, b, path=""):
    """The entries of two checkpoints that are not equal, bit by bit."""
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: {a.keys() ^ b.keys()}"]
        return [text for key in a for text in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [path]
        return [text for i in range(len(a)) for text in differences(a[i], b[i], f"{path}/{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [path]


def load(path):
    return torch.load(path, weights_only=True)


def lines(folder):
    """What metrics.json says, once, of each iteration, without what depends on the clock."""
    said = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        record = json.loads(line)
        numbers = said.setdefault(record.pop("iteration"), {})
        assert not numbers.keys() & record.keys() - {"lr"}
        clock = ("time", "data_time", "rank_data_time", "eta_seconds")
        numbers.update((k, repr(v)) for k, v in record.items() if k not in clock)
    return said
