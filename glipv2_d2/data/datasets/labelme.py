"""labelme: a json file an image, and its relatives that write the same (X-AnyLabeling)."""

from __future__ import annotations

import base64
import binascii
import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...errors import DataError
from ..containers import BASE64, ImageSource
from ..entries import field_of, json_objects, plain_number
from ..images import record_image_size
from ..report import Record, RecordError, Report
from .coco_like import load_json
from .labeled_images import (
    ImageFolder,
    LabeledImages,
    Point,
    Unusable,
    around,
    ellipse_points,
    image_size,
    labeled_box,
    labeled_mask,
    labeled_polygon,
    read_annotations,
)

_BOXES = ("rectangle", "rotation")


def read_labelme(path: str, image_root: str, report: Report) -> LabeledImages:
    """Images and their shapes.

    Rectangles, polygons, circles and masks are read, the last three with masks. Shapes of one label
    and one `group_id` are one object. Points and lines have no box and are left out. An image that
    is not there is taken out of the json (`imageData`).

    Args:
        path: the folder of the json files, or one of them.
        image_root: the folder of the images, where they are not at their `imagePath`.
        report: takes what is left out.

    Raises:
        DataError: there is no json.
    """
    files = sorted(map(str, Path(path).rglob("*.json"))) if os.path.isdir(path) else [path]
    if not files:
        raise DataError(f"{path}: there are no json files")
    return LabeledImages(_records(files, ImageFolder(image_root), report))


def _records(files: Sequence[str], images: ImageFolder, report: Report) -> Iterator[Record]:
    for file in files:
        try:
            content = _content(file)
            image = _image(content, file, images)
            height, width = image["height"], image["width"]
            shapes = field_of(content, "shapes", list, file)
        except RecordError as error:
            report.unusable(error)
            continue
        entries = [
            (f"{file}: shape {number}", shape)
            for number, shape in json_objects(shapes, f"{file}: shapes", report.annotation)
        ]
        annotations = read_annotations(entries, _annotation, report, height, width)
        yield {**image, "annotations": _grouped(annotations)}


def _content(file: str) -> Record:
    try:
        content = load_json(file, "annotation file")
    except DataError as error:
        raise RecordError("no valid json", file, str(error)) from None
    if not isinstance(content, dict) or "shapes" not in content:
        raise RecordError("other json", file, "it has no 'shapes': it is not of labelme")
    return content


def _image(content: Record, file: str, images: ImageFolder) -> Record:
    """The record of the image without annotations."""
    name = field_of(content, "imagePath", str, file).replace("\\", "/")
    beside = os.path.normpath(os.path.join(os.path.dirname(file), name))
    source = None
    if os.path.isfile(beside):
        found = beside
    elif data := content.get("imageData"):
        found, source = beside, _embedded(data, file)
    else:
        stem = os.path.splitext(os.path.relpath(file, images.root))[0]
        found = images.find([name, stem], file)
    record: Record = {"file_name": found} | ({} if source is None else {"image_source": source})
    told = [plain_number(content.get(f"image{side}")) for side in ("Height", "Width")]
    if all(isinstance(side, int) and side > 0 for side in told):
        return {**record, "height": told[0], "width": told[1]}
    height, width = image_size(found, file) if source is None else record_image_size(record)
    return {**record, "height": height, "width": width}


def _embedded(data: Any, file: str) -> ImageSource:
    content, text = Path(file).read_bytes(), str(data).encode()
    offset = content.find(text)
    if offset < 0:
        what = "its 'imageData' is escaped: save it with labelme, or put the image beside it"
        raise RecordError("bad imageData", file, what)
    return ImageSource(BASE64, file, offset, len(text), "")


def _annotation(shape: Record, height: int, width: int) -> Record:
    label, kind = shape["label"], shape.get("shape_type") or "polygon"
    if not isinstance(label, str):
        raise Unusable("bad label", f"the field 'label' is no text: {label!r:.60}")
    points: list[Point] = [(float(x), float(y)) for x, y in shape["points"]]
    if kind in _BOXES and len(points) > 1:
        result = labeled_box(label, around(points))
    elif kind == "polygon":
        result = labeled_polygon(label, points)
    elif kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        result = labeled_polygon(label, ellipse_points(points[0], radius, radius))
    elif kind == "mask" and shape.get("mask"):
        left, top = (round(v) for v in points[0])
        result = labeled_mask(label, _decoded(shape["mask"]), left, top, height, width)
    else:
        raise Unusable("shape without a box", f"{kind!r} with {len(points)} points")
    return {**result, "group": shape.get("group_id")}


def _decoded(text: str) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) > 0
    except (binascii.Error, UnidentifiedImageError, OSError) as error:
        raise Unusable("bad mask", f"the field 'mask' is no image: {error}") from None


def _grouped(annotations: Sequence[Record]) -> list[Record]:
    """Annotations of one label and group as one, with the box around all of them."""
    objects: dict[Any, list[Record]] = {}
    for number, annotation in enumerate(annotations):
        group = annotation.pop("group")
        key = number if group is None else (annotation["label"], str(group))
        objects.setdefault(key, []).append(annotation)
    return [parts[0] if len(parts) == 1 else _joined(parts) for parts in objects.values()]


def _joined(parts: Sequence[Record]) -> Record:
    corners = [(x, y, x + w, y + h) for x, y, w, h in (part["bbox"] for part in parts)]
    points = [point for x0, y0, x1, y1 in corners for point in ((x0, y0), (x1, y1))]
    masks = [part.get("segmentation") for part in parts]
    polygons = [mask for mask in masks if isinstance(mask, list)]
    joined = sum(polygons, []) if len(polygons) == len(parts) else None
    box = labeled_box(parts[0]["label"], around(points), joined)
    return {**box, "where": parts[0]["where"]}
