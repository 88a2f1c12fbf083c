"""Label Studio's exports "JSON" and "JSON-MIN"."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from ...images import readable_suffixes
from ..entries import json_objects
from ..report import Record, RecordError, Report
from .coco_like import load_json
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

_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "labels")
_BITMAPS = ("imageDataURL", "bitmasklabels")
_SHAPES = ("points", "radiusX", "rle", "imageDataURL", "height", "x")
OPAQUE = 127  # alpha of a brush stroke; its edges are soft
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # before the name of a file that was uploaded


def read_label_studio(
    path: str, image_root: str, report: Report, *, predictions: bool = False
) -> LabeledImages:
    """Images and their regions.

    Rectangles, polygons, ellipses and what the brush has painted are read, all but the first with
    masks; of a rotated rectangle the upright box around it. A region with two labels is two
    objects. Bitmaps (<BitmaskLabels>) are left out: export those as COCO. Of several annotations of
    a task the ground truth is taken, or else the newest one. Tasks that were skipped, or that
    nobody has labeled, are left out.

    Args:
        path: the json.
        image_root: the folder of the images, or one above.
        report: takes what is left out.
        predictions: read what a model has found (`glip detect --format label-studio`), and not
            what people have labeled.

    Raises:
        DataError: the file is no list of tasks.
    """
    content = load_json(path, "annotation file")
    tasks = content if isinstance(content, list) else [content]
    field = "predictions" if predictions else "annotations"
    return LabeledImages(_records(tasks, path, ImageFolder(image_root), report, field))


def _records(
    tasks: Sequence[Any], path: str, images: ImageFolder, report: Report, field: str
) -> Iterator[Record]:
    several = 0
    for key, versions in _by_task(tasks, path, report).items():
        where = f"{path}: task {key}"
        try:
            task, regions, count = _chosen(versions, where, field)
            several += count > 1
            names = _image_names(task, where)
            file = images.find(names, where)
            height, width = _told_size(regions) or image_size(file, where)
        except RecordError as error:
            report.unusable(error)
            continue
        entries = [
            (f"{where}: region {number}", {**region, _LABELS[-1]: [label]})
            for number, region in enumerate(regions)
            for label in _labels(region)
        ]
        annotations = read_annotations(entries, _annotation, report, height, width)
        yield {"file_name": file, "height": height, "width": width, "annotations": annotations}
    if several:
        report.warn(
            f"{several} tasks have several {field}, of which the ground truth or else the "
            "newest one is used"
        )


def _by_task(tasks: Sequence[Any], path: str, report: Report) -> dict[Any, list[Record]]:
    """Task -> its entries: of JSON one, of JSON-MIN one an annotation."""
    result: dict[Any, list[Record]] = {}
    for number, task in json_objects(tasks, path, report.record):
        result.setdefault(str(task.get("id", f"number {number}")), []).append(task)
    return result


def _chosen(versions: list[Record], where: str, field: str) -> tuple[Record, list[Record], int]:
    """(the task, the regions of one annotation, how many annotations there are)."""
    task = versions[-1]
    annotations = task.get(field, task.get("completions"))
    if annotations is None and "predictions" in task:
        what = "nobody has labeled it, it has predictions only (reader_options: predictions=True)"
        raise RecordError("task without annotation", where, what, fault=False)
    if annotations is None:
        task = max(versions, key=_age)
        return task, _regions_of_min(task), len(versions)
    done = [a for a in annotations if not (a.get("was_cancelled") or a.get("skipped"))]
    if not done:
        what = "it was skipped" if annotations else "nobody has labeled it"
        raise RecordError("task without annotation", where, what, fault=False)
    chosen = max(done, key=lambda a: (bool(a.get("ground_truth")), _age(a)))
    return task, _regions(chosen.get("result") or ()), len(done)


def _age(entry: Record) -> str:
    return str(entry.get("created_at") or "")


def _regions(results: Sequence[Record]) -> list[Record]:
    """The regions of an annotation; shape and labels of one may stand in two entries."""
    regions: dict[Any, Record] = {}
    for number, result in enumerate(results):
        if isinstance(value := result.get("value"), dict):
            whole = {k: result[k] for k in _IMAGE_FIELDS if k in result}
            regions.setdefault(result.get("id", number), {}).update({**whole, **value})
    return [region for region in regions.values() if any(key in region for key in _SHAPES)]


_IMAGE_FIELDS = ("original_width", "original_height", "image_rotation")


def _regions_of_min(task: Record) -> list[Record]:
    lists = [value for value in task.values() if isinstance(value, list)]
    entries = [entry for value in lists for entry in value if isinstance(entry, dict)]
    return [entry for entry in entries if any(key in entry for key in _SHAPES)]


def _image_names(task: Record, where: str) -> list[str]:
    """What the image of a task may be called, the surest first."""
    data = task.get("data", task)
    texts = [v for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
    urls = [text for text in texts if _path(text).lower().endswith(readable_suffixes())]
    if len(set(urls)) != 1:
        what = f"it names {len(set(urls))} images, and not one"
        raise RecordError("not one image", where, what)
    path = _path(urls[0])
    folder, name = os.path.split(path)
    return [path, os.path.join(folder, _UPLOAD.sub("", name))]


def _path(url: str) -> str:
    """The file in an address: `/data/upload/1/a.jpg`, `/data/local-files/?d=a.jpg`, `s3://b/a.jpg`."""
    if "?d=" in url:
        return unquote(url.split("?d=", 1)[1]).replace("\\", "/")
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return unquote(parts.path if parts.scheme or url.startswith("/data/") else url)


def _told_size(regions: Sequence[Record]) -> tuple[int, int] | None:
    for region in regions:
        height, width = region.get("original_height"), region.get("original_width")
        if isinstance(height, int) and isinstance(width, int):
            return height, width
    return None


def _labels(region: Mapping[str, Any]) -> Sequence[Any]:
    """The labels of a region; one of None, which is reported, where there are none."""
    found = [v for key in _LABELS for v in region.get(key) or ()]
    return list(dict.fromkeys(found)) or [None]


def _annotation(region: Record, height: int, width: int) -> Record:
    (label,) = region[_LABELS[-1]]
    if any(key in region for key in _BITMAPS):
        raise Unusable("bitmap", "these are not read: export the project as COCO")
    if label is None:
        raise Unusable("region without a label", f"it has only {sorted(region)}")
    if region.get("image_rotation"):
        what = "the image was turned in the editor: turn the file, or export the project as COCO"
        raise Unusable("turned image", what)
    if "rle" in region:
        return _painted(label, region["rle"], height, width)
    scale_x, scale_y, degrees = width / 100, height / 100, float(region.get("rotation") or 0)
    if "points" in region:
        points = [(x * scale_x, y * scale_y) for x, y in region["points"]]
        return labeled_polygon(label, points)
    x, y = region["x"] * scale_x, region["y"] * scale_y
    if "radiusX" in region:
        ellipse = ellipse_points((x, y), region["radiusX"] * scale_x, region["radiusY"] * scale_y)
        return labeled_polygon(label, rotated(ellipse, (x, y), degrees))
    if "height" not in region:
        raise Unusable("shape without a box", "it is a point")
    corners = x, y, x + region["width"] * scale_x, y + region["height"] * scale_y
    if not degrees:
        return labeled_box(label, corners)
    return labeled_box(label, around(rotated(corner_points(*corners), (x, y), degrees)))


def _painted(label: Any, packed: Sequence[int], height: int, width: int) -> Record:
    """What the brush has painted, with the box around it."""
    values = _unpacked(packed)
    if len(values) != height * width * 4:
        raise ValueError(
            f"its mask has {len(values)} values, an image of {width}x{height} four each"
        )
    mask = values.reshape(height, width, 4)[:, :, 3] > OPAQUE  # of red, green, blue and alpha
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise Unusable("empty mask", "nothing is painted")
    top, left = int(rows[0]), int(columns[0])
    painted = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    return labeled_mask(label, painted, left, top, height, width)


def _unpacked(packed: Sequence[int]) -> np.ndarray:
    """The bytes that Label Studio's run-length encoding stands for (`rle-pack` of thi.ng).

    A stream of bits: 32 for how many values there are, 5 for the bits of a value less one, 4 times
    4 for the bits, less one, of four kinds of lengths. Then runs: a bit that tells whether one
    value is repeated or each is told, 2 for the kind of length, the length less one, the values.

    Raises:
        ValueError: it ends too early, or a value has more than 8 bits.
    """
    bits = np.unpackbits(np.asarray(packed, dtype=np.uint8))
    at = 0

    def take(count: int, of: int = 1) -> np.ndarray:
        nonlocal at
        if at + count * of > len(bits):
            raise ValueError("its mask ends too early")
        taken = bits[at : at + count * of].reshape(of, count)
        at += count * of
        return taken @ (1 << np.arange(count - 1, -1, -1, dtype=np.int64))

    (total,), (value_bits,) = take(32), take(5) + 1
    length_bits = take(4, 4) + 1
    if value_bits > 8:
        raise ValueError(f"its mask has {value_bits} bits a value, and not 8")
    runs, done = [], 0
    while done < total:
        (repeated,), (kind,) = take(1), take(2)
        length = int(take(int(length_bits[kind]))[0]) + 1
        runs.append(take(value_bits).repeat(length) if repeated else take(value_bits, length))
        done += length
    return np.concatenate([*runs, np.zeros(0, np.int64)])[:total].astype(np.uint8)
