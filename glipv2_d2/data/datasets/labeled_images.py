"""What the formats of labeling tools have in common: images to be found, objects with labels.

A reader of such a format gives `LabeledImages`: records whose annotations have a `label` in place
of a class id, and what the labels are called. `load_labeled_images` makes detection records of
them, alike for every format.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from ...errors import DataError, ImageReadError, MissingImageError
from ...images import readable_suffixes
from ..checks import not_utf8
from ..entries import short
from ..images import record_image_size
from ..report import Record, RecordError, Report, reported
from .coco_like import set_vocabulary

Label = int | str
Point = tuple[float, float]
_NO_CLASS = (
    "for no image has an object, and nothing lists the classes. Name them with classes=[...], or "
    "give a YOLO data set its yaml with 'names', or a classes.txt, a name a line"
)


class LabeledImages(NamedTuple):
    """What a reader of a format gives.

    Attributes:
        records: `file_name, height, width, annotations`; annotations as `labeled_box` makes them.
        names: number -> class name, where labels are numbers, empty where nothing names them;
            None: labels are names.
        listed: the classes that the file lists; empty: where labels are names, those that occur
            are the classes, in alphabetical order.
    """

    records: Iterable[Record]
    names: Mapping[Label, str] | None = None
    listed: Sequence[str] = ()


def load_labeled_images(
    read: Callable[..., LabeledImages],
    path: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    classes: Sequence[str] | None = None,
    **options: Any,
) -> list[Record]:
    """Detection records of a format, with image ids from 1 in the order in which it is read.

    Args:
        read: of the format, called as `(path, image_root, report, **options)`.
        path, image_root, options: its arguments.
        dataset_name: its metadata gets `thing_classes` and `thing_dataset_id_to_contiguous_id`.
        report: takes what is left out; one of its own by default, which is logged.
        classes: the class names. Of a format with numbers, in their order; of one with names these
            are the ones that are used, and others are left out and counted.

    Raises:
        DataError: the annotations cannot be read, or no class is named.
    """
    with reported(path, report) as report:
        found = read(path, image_root, report, **options)
        records = list(_each_image_once(found.records, path, report))
        if found.names is None and classes is not None:
            report.warn(_keep_classes(records, classes))
        numbers, names = _vocabulary(found, classes, records, path)
        for image_id, record in enumerate(records, 1):
            record["image_id"] = image_id
            record["annotations"] = list(_with_class(record["annotations"], numbers, report))
            if dataset_name is not None:
                record["dataset_name"] = dataset_name
    if dataset_name is not None:
        set_vocabulary(dataset_name, names, {i: i for i in range(len(names))}, path)
    return records


def _each_image_once(records: Iterable[Record], path: str, report: Report) -> Iterator[Record]:
    seen = set()
    for record in records:
        if record["file_name"] in seen:
            what = "another entry has labeled this image; the first is used"
            report.record("image labeled twice", f"{path}: {record['file_name']}", what)
            continue
        seen.add(record["file_name"])
        yield record


def _keep_classes(records: Sequence[Record], classes: Sequence[str]) -> str | None:
    """Leave out the annotations of other classes, in place, and tell of them."""
    others: Counter = Counter()
    for record in records:
        others.update(a["label"] for a in record["annotations"] if a["label"] not in classes)
        record["annotations"] = [a for a in record["annotations"] if a["label"] in classes]
    if not others:
        return None
    told = short([f"{label} {count}" for label, count in others.most_common()], 200)
    return f"{others.total()} annotations of classes that are not asked for, left out: {told}"


def _vocabulary(
    found: LabeledImages,
    classes: Sequence[str] | None,
    records: Sequence[Record],
    path: str,
) -> tuple[dict[Label, int], list[str]]:
    """(label -> class id, class names)."""
    given = found.names
    if given is None:
        used = {a["label"] for record in records for a in record["annotations"]}
        given = {name: name for name in classes or found.listed or sorted(used, key=str)}
    elif classes is not None:
        if given and len(classes) != len(given):
            raise DataError(
                f"{path}: {len(given)} classes are numbered ({short([*given.values()])}), but "
                f"{len(classes)} names are given ({short([*classes])})"
            )
        given = dict(zip(given or range(len(classes)), classes))
    if not given:
        raise DataError(f"{path}: no class is known, {_NO_CLASS}")
    for label, name in given.items():
        if not isinstance(name, str) or not name.strip() or not_utf8(name):
            raise DataError(f"{path}: class {label!r} has the name {name!r}: empty or no text")
    return {label: number for number, label in enumerate(given)}, list(given.values())


def _with_class(
    annotations: Iterable[Record], numbers: Mapping[Label, int], report: Report
) -> Iterator[Record]:
    for annotation in annotations:
        label, where = annotation.pop("label"), annotation.pop("where")
        if label in numbers:
            yield {**annotation, "category_id": numbers[label]}
        else:
            what = f"the class {label!r} is none of the {len(numbers)} of the data set"
            report.annotation("unlisted class", where, f"{what}, {short([*numbers])}")


def labeled_box(
    label: Label, corners: Sequence[float], mask: Any = None, crowd: bool = False
) -> Record:
    """An annotation.

    Args:
        label: see `LabeledImages`.
        corners: x0, y0, x1, y1 in pixels; kept to a hundredth of one, which is what numbers of six
            digits between 0 and 1 tell, so that a box at the border of its image ends there.
        mask: COCO's `segmentation`.
        crowd: neither trained on nor counted.
    """
    x0, y0, x1, y1 = map(float, corners)
    box = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
    result = {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": int(crowd), "label": label}
    return result if mask is None else {**result, "segmentation": mask}


def labeled_polygon(label: Label, points: Sequence[Point], crowd: bool = False) -> Record:
    """An annotation with the polygon as its mask and the box around it.

    Raises:
        ValueError: fewer than three points.
    """
    if len(points) < 3:
        raise ValueError(f"a polygon has three points or more, this one has {len(points)}")
    flat = [round(float(v), 2) for point in points for v in point]
    return labeled_box(label, around(points), [flat], crowd)


def labeled_mask(
    label: Label, mask: np.ndarray, left: int, top: int, height: int, width: int
) -> Record:
    """An annotation with the mask of a part of its image, and the box around that part.

    Args:
        label: see `LabeledImages`.
        mask: (h, w) bool.
        left, top: where it lies in the image; what lies beyond the image is not kept.
        height, width: of the image.
    """
    (h, w) = mask.shape
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
    whole = np.zeros((height, width), dtype=np.uint8, order="F")
    if x0 < x1 and y0 < y1:
        whole[y0:y1, x0:x1] = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    return labeled_box(label, (left, top, left + w, top + h), mask_util.encode(whole))


def around(points: Iterable[Point]) -> list[float]:
    """x0, y0, x1, y1 of the box around points."""
    xs, ys = zip(*points)
    return [min(xs), min(ys), max(xs), max(ys)]


def rotated(points: Iterable[Point], center: Point, degrees: float) -> list[Point]:
    """Points turned clockwise about a center, as they are seen on the screen."""
    (cx, cy), angle = center, math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return [
        (cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos)
        for x, y in points
    ]


def corner_points(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    """The four corners of a box, clockwise."""
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def ellipse_points(center: Point, radius_x: float, radius_y: float) -> list[Point]:
    """36 points of an ellipse, those at its four ends among them."""
    angles = [math.radians(10 * step) for step in range(36)]
    return [
        (center[0] + radius_x * math.cos(a), center[1] + radius_y * math.sin(a)) for a in angles
    ]


class Unusable(Exception):
    """An annotation cannot be used: (kind, what), as a `Report` takes them."""


def read_annotations(
    entries: Iterable[tuple[str, Any]], read: Callable[..., Record], report: Report, *told: Any
) -> list[Record]:
    """The annotations of an image; those that are not in the expected form are left out.

    Args:
        entries: (where, what the file has there).
        read: makes an annotation of it and of what is `told`, or raises `Unusable`.
        report: takes what is left out.
        told: of the image, for instance its size.
    """
    result = []
    for where, entry in entries:
        try:
            annotation = read(entry, *told)
            if isinstance(annotation["label"], str) and not annotation["label"].strip():
                raise Unusable("missing label", "its class is an empty text")
            result.append({**annotation, "where": where})
        except Unusable as problem:
            report.annotation(problem.args[0], where, problem.args[1])
        except KeyError as error:
            report.annotation("missing field", where, f"the field {error} is missing")
        except (IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            report.annotation("bad annotation", where, f"{short(entry)}: {error}")
    return result


def image_size(path: str, where: str) -> tuple[int, int]:
    """(height, width) of an image file, from its header.

    Raises:
        RecordError: it cannot be read.
    """
    try:
        return record_image_size({"file_name": path})
    except (ImageReadError, MissingImageError, OSError) as error:
        raise RecordError("unreadable image", where, str(error)) from None


MISSING = "missing image file"


class ImageFolder:
    """The images below a folder, by the names that annotations give them.

    Tools write names as they were elsewhere: absolute, with the separators of Windows, without the
    folder or with another one, without the ending.
    """

    def __init__(self, root: str):
        self.root = root

    @cached_property
    def files(self) -> list[str]:
        """The paths of all images, sorted."""
        suffixes = readable_suffixes()
        return sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(self.root, followlinks=True)
            for name in names
            if name.lower().endswith(suffixes) and not name.startswith(".")
        )

    @cached_property
    def _by_end(self) -> dict[str, list[str]]:
        """The last parts of a path, with and without its ending -> paths."""
        found: dict[str, list[str]] = {}
        for path in self.files:
            parts = self._inside(path).split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                for key in {end, os.path.splitext(end)[0]}:
                    found.setdefault(key, []).append(path)
        return found

    @cached_property
    def _folders(self) -> set[str]:
        """The last parts of the paths of folders that have images."""
        folders = {tuple(self._inside(path).split("/")[:-1]) for path in self.files}
        return {"/".join(parts[start:]) for parts in folders for start in range(len(parts))}

    def _inside(self, path: str) -> str:
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def find(self, names: Sequence[str], where: str) -> str:
        """The path of an image.

        Args:
            names: what it may be called, the surest first; of each the whole path is looked for
                first, then its end, so that `a/1.jpg` and `b/1.jpg` are told apart. Where there is
                a folder `a`, `a/1.jpg` is nowhere else.
            where: for the message.

        Raises:
            RecordError: there is none, or several have the name.
        """
        several: list[str] = []
        for name in names:
            parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".", "..")]
            name = "/".join(parts)
            if os.path.isfile(path := os.path.join(self.root, name)):
                return path
            folders = ("/".join(parts[start:-1]) for start in range(len(parts)))
            own = next((f"/{folder}/" for folder in folders if folder in self._folders), "/")
            for start in range(len(parts)):
                found = self._by_end.get("/".join(parts[start:]), [])
                hits = [h for h in found if own in "/" + self._inside(h)]
                inside = [
                    h for h in hits if os.path.splitext(self._inside(h))[0] == "/".join(parts)
                ]
                hits = inside if len(inside) == 1 else hits
                if len(hits) == 1:
                    return hits[0]
                if hits:
                    several = several or hits
                    break
        if several:
            what = f"{names[0]!r} may be {several[0]!r} or {several[1]!r}"
            raise RecordError("several images of one name", where, f"{what}: name the folder too")
        what = f"there is no image {names[0]!r} below {self.root!r}"
        raise RecordError(MISSING, where, what)
