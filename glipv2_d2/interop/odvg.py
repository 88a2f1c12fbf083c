"""ODVG jsonl, as MM-Grounding-DINO and Open-GroundingDino train on: an image a line."""

from __future__ import annotations

import json
from pathlib import Path

from .labels import Labels


def write_odvg(labels: Labels, folder: Path) -> None:
    """Write `annotations.jsonl` and `label_map.json`.

    File names are paths below `labels.root`. Instances have a `score`, which readers pass over;
    there are no masks.
    """
    with open(folder / "annotations.jsonl", "w", encoding="utf-8") as file:
        for image, path in zip(labels.images, labels.paths):
            instances = [
                {
                    "bbox": found.box,
                    "label": labels.numbers[found.phrase],
                    "category": found.phrase,
                    "score": found.score,
                }
                for found in image.detections
            ]
            size = {"height": image.height, "width": image.width}
            line = {"filename": path, **size, "detection": {"instances": instances}}
            file.write(json.dumps(line) + "\n")
    numbers = {str(number): name for name, number in labels.numbers.items()}
    (folder / "label_map.json").write_text(json.dumps(numbers), encoding="utf-8")
