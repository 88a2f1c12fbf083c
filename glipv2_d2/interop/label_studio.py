"""Label Studio: tasks with predictions to be corrected, and the labeling interface they need."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ..sources import is_address
from .labels import DetectedImage, Labels

_FROM, _TO = "label", "image"


def write_label_studio(labels: Labels, folder: Path) -> None:
    """Write `tasks.json`, to be imported, and `labeling_interface.xml`, to be pasted before.

    An image that is a file is named by its path below `labels.root`, as Label Studio's local
    storage serves it; one that is an address keeps that. There are no masks.
    """
    tasks = [
        {
            "data": {_TO: image.file if is_address(image.file) else _served(path)},
            "predictions": [_prediction(image)],
        }
        for image, path in zip(labels.images, labels.paths)
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks, indent=1), encoding="utf-8")
    view = labeling_interface(labels.names)
    (folder / "labeling_interface.xml").write_text(view, encoding="utf-8")


def labeling_interface(names: Sequence[str]) -> str:
    """The XML of a project's labeling interface with boxes of these classes."""
    view = Element("View")
    SubElement(view, "Image", name=_TO, value=f"${_TO}")
    boxes = SubElement(view, "RectangleLabels", name=_FROM, toName=_TO)
    for name in names:
        SubElement(boxes, "Label", value=name)
    indent(view)
    return tostring(view, "unicode") + "\n"


def _served(path: str) -> str:
    return "/data/local-files/?d=" + quote(path, errors="surrogateescape")


def _prediction(image: DetectedImage) -> dict[str, Any]:
    scores = [found.score for found in image.detections]
    mean = {"score": round(sum(scores) / len(scores), 4)} if scores else {}
    result = []
    for number, found in enumerate(image.detections, 1):
        x0, y0, x1, y1 = found.box
        sides = {"x": x0, "width": x1 - x0}, {"y": y0, "height": y1 - y0}
        percent = {
            key: round(100 * value / side, 5)
            for part, side in zip(sides, (image.width, image.height))
            for key, value in part.items()
        }
        region = {
            "id": f"box{number}",
            "type": "rectanglelabels",
            "from_name": _FROM,
            "to_name": _TO,
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "score": found.score,
            "value": {**percent, "rotation": 0, "rectanglelabels": [found.phrase]},
        }
        result.append(region)
    return {"model_version": "GLIP", **mean, "result": result}
