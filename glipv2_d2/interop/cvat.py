"""CVAT's own xml, "CVAT for images 1.1", to be uploaded to a task."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from pycocotools import mask as mask_util

from .labels import Detection, Labels, xml_text


def write_cvat(labels: Labels, folder: Path) -> None:
    """Write `annotations.xml`: masks where there are any, else boxes.

    Images are named by their paths below `labels.root`, as in a task that was made of that folder.
    There are no scores.
    """
    root = Element("annotations")
    _add(root, "version", "1.1")
    task = SubElement(SubElement(root, "meta"), "task")
    _add(task, "size", len(labels.images))
    names = SubElement(task, "labels")
    for name in labels.names:
        label = SubElement(names, "label")
        _add(label, "name", name)
        _add(label, "type", "any")
    for number, (image, path) in enumerate(zip(labels.images, labels.paths)):
        fields = {"id": number, "name": xml_text(path)}
        fields |= {"width": image.width, "height": image.height}
        entry = SubElement(root, "image", _texts(fields))
        for found in image.detections:
            SubElement(entry, *_shape(found))
    tree = ElementTree(root)
    indent(tree)
    tree.write(folder / "annotations.xml", "utf-8", xml_declaration=True)


def _shape(found: Detection) -> tuple[str, dict[str, str]]:
    """(tag, attributes)."""
    fields: dict[str, Any] = {"label": found.phrase, "source": "auto", "occluded": 0, "z_order": 0}
    mask = None if found.mask is None else mask_util.decode(found.mask)
    if mask is not None and mask.any():
        tag, fields = "mask", {**fields, **_mask(mask)}
    else:
        tag = "box"
        fields |= {key: f"{v:.2f}" for key, v in zip(("xtl", "ytl", "xbr", "ybr"), found.box)}
    return tag, _texts(fields)


def _mask(mask: np.ndarray) -> dict[str, Any]:
    """The part of a mask that is not empty, row by row: how many pixels are out, in, out, ..."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = rows[0], columns[0]
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    counts = [len(list(run)) for _, run in groupby([0, *part.ravel().tolist()])]
    counts[0] -= 1  # of the 0 that was put before, so that it begins with what is out
    size = {"width": part.shape[1], "height": part.shape[0]}
    return {"rle": ", ".join(map(str, counts)), "left": left, "top": top, **size}


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in fields.items()}


def _add(parent: Element, tag: str, value: object) -> None:
    SubElement(parent, tag).text = str(value)
