"""CVAT's own xml, "CVAT for images 1.1", of a task, a job or a project."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from ...errors import DataError
from ..report import Record, RecordError, Report
from .labeled_images import (
    ImageFolder,
    LabeledImages,
    Unusable,
    around,
    corner_points,
    ellipse_points,
    image_size,
    labeled_box,
    labeled_mask,
    labeled_polygon,
    read_annotations,
    rotated,
)
from .pascal_voc import parse_xml, text_of
from .yolo import SPLITS

# Labels of these types have no boxes.
_NO_BOXES = ("tag", "points", "polyline", "skeleton", "cuboid")
_BOX = ("xtl", "ytl", "xbr", "ybr")


def read_cvat(
    path: str, image_root: str, report: Report, *, split: str | None = None
) -> LabeledImages:
    """Images and their shapes.

    Boxes, polygons, masks and ellipses are read, the last three with masks; of a rotated box the
    upright box around it. Other shapes (points, lines, cuboids, skeletons) have no box and are left
    out; tags, which are about the whole image, are not looked at. The classes are the labels of the
    task.

    Args:
        path: the xml.
        image_root: the folder of the images, or one above; an image of a project may be in the
            folder of its subset.
        report: takes what is left out.
        split: the images of this subset alone, one of `cvat_splits`; None: all.

    Raises:
        DataError: the file is no such xml.
    """
    root = _root(path)
    if root.find("image") is None:
        other = "an export 'CVAT for video': export the task as 'CVAT for images 1.1'"
        what = other if root.find("track") is not None else "it has no <image>"
        raise DataError(f"{path}: {what}")
    labels = [
        label for label in root.iterfind("meta//labels/label") if not text_of(label, "parent")
    ]
    names = [text_of(label, "name") for label in labels if text_of(label, "type") not in _NO_BOXES]
    images = ImageFolder(image_root)
    entries = list(root.iterfind("image"))
    if split is not None:
        left_out = sum(_split_of(entry) is None for entry in entries)
        if left_out:
            report.warn(f"{left_out} images are in no subset of {', '.join(SPLITS)}: left out")
        entries = [entry for entry in entries if _split_of(entry) == split]
    records = _records(entries, path, images, report)
    return LabeledImages(records, listed=list(dict.fromkeys(names)))


def cvat_splits(path: str) -> tuple[str, ...]:
    """Which of `"train"`, `"val"` and `"test"` the subsets of a task or a project are.

    Raises:
        DataError: the file is no xml.
    """
    found = {_split_of(entry) for entry in _root(path).iterfind("image")}
    return tuple(split for split in SPLITS if split in found)


def _root(path: str) -> Element:
    try:
        return parse_xml(path)
    except RecordError as error:
        raise DataError(str(error)) from None


def _split_of(entry: Element) -> str | None:
    subset = entry.get("subset", "").lower()
    return next((split for split, names in SPLITS.items() if subset in names), None)


def _records(
    entries: list[Element], path: str, images: ImageFolder, report: Report
) -> Iterator[Record]:
    for entry in entries:
        name = entry.get("name", "")
        where = f"{path}: image {entry.get('id')} ({name})"
        try:
            file = images.find([f"{entry.get('subset')}/{name}", name], where)
            size = entry.get("height", ""), entry.get("width", "")
            told = all(side.isdecimal() for side in size)
            height, width = map(int, size) if told else image_size(file, where)
        except RecordError as error:
            report.unusable(error)
            continue
        shapes = [(f"{where}: {s.tag} {n}", s) for n, s in enumerate(entry) if s.tag != "tag"]
        annotations = read_annotations(shapes, _annotation, report, height, width)
        yield {"file_name": file, "height": height, "width": width, "annotations": annotations}


def _annotation(shape: Element, height: int, width: int) -> Record:
    fields = shape.attrib
    label, degrees = fields["label"], float(fields.get("rotation", 0))
    if shape.tag == "box":
        x0, y0, x1, y1 = corners = [float(fields[key]) for key in _BOX]
        if not degrees:
            return labeled_box(label, corners)
        center = (x0 + x1) / 2, (y0 + y1) / 2
        return labeled_box(label, around(rotated(corner_points(*corners), center, degrees)))
    if shape.tag == "polygon":
        points = [point.split(",") for point in fields["points"].split(";")]
        return labeled_polygon(label, [(float(x), float(y)) for x, y in points])
    if shape.tag == "ellipse":
        x, y, rx, ry = (float(fields[key]) for key in ("cx", "cy", "rx", "ry"))
        return labeled_polygon(label, rotated(ellipse_points((x, y), rx, ry), (x, y), degrees))
    if shape.tag == "mask":
        left, top, w, h = (int(float(fields[key])) for key in ("left", "top", "width", "height"))
        counts = [int(count) for count in fields["rle"].split(",")]
        values = np.arange(len(counts)) % 2 == 1  # row by row, beginning with what is not in it
        mask = np.repeat(values, counts).reshape(h, w)
        return labeled_mask(label, mask, left, top, height, width)
    raise Unusable("shape without a box", f"<{shape.tag}> is no box, polygon, ellipse or mask")
