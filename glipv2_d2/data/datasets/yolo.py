"""YOLO's labels (Ultralytics, Roboflow, Label Studio, CVAT, darknet): a text file an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml

from ...errors import DataError
from ..report import Record, RecordError, Report
from .labeled_images import (
    ImageFolder,
    Label,
    LabeledImages,
    Unusable,
    image_size,
    labeled_box,
    labeled_polygon,
    read_annotations,
)

# What the parts of a data set are called.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
NAME_LISTS = ("classes.txt", "obj.names")
# Numbers between 0 and 1 may be a little beyond; pixels are far beyond.
_FARTHEST = 2


def read_yolo(
    path: str, image_root: str, report: Report, *, split: str | None = None
) -> LabeledImages:
    """Images and the text files of their labels.

    A line is `class x y width height` (the center; all but the class in parts of the image) or
    `class x1 y1 x2 y2 x3 y3 ...`, a polygon. The labels of `images/a/1.jpg` are `labels/a/1.txt`,
    or else stand beside the image. An empty file is an image without objects, and so is none,
    which is warned of.

    Args:
        path: the yaml of a data set; a folder that has one, or one of images, with a yaml,
            `classes.txt` or `obj.names` in it or up to two folders above; or a list of images.
        image_root: where the images are, if `path` is the folder of their labels; else "".
        report: takes what is left out.
        split: of the yaml: `"train"` (the default), `"val"`, `"test"`.

    Raises:
        DataError: images or class names cannot be found.
    """
    own = yaml_of(path)
    content = {} if (near := own or _yaml_above(path)) is None else _read_yaml(near)
    label_root = None
    if image_root:
        images = ImageFolder(image_root).files
        label_root = path if os.path.isdir(path) and own is None else None
    elif own is not None:
        images = _images_of_split(own, content, split or "train")
    else:
        images = ImageFolder(path).files if os.path.isdir(path) else _listed_images(path)
    if not images:
        raise DataError(
            f"{path}: there is no image; image_root (--images) names the images' folder"
        )
    names = _names_beside(path) if near is None else _names_of_yaml(content, near)
    folders = None if label_root is None else (image_root, label_root)
    places = [path] if own is None else _entries(content, split or "train")
    if not any(place.endswith(".txt") for place in places):  # a list leaves other splits out
        _tell_unused_labels(images, folders, report)
    # The keypoints of "pose" labels stand behind the box.
    read = _box_annotation if "kpt_shape" in content else _annotation
    return LabeledImages(_records(images, folders, read, path, report), names)


def _records(
    images: Sequence[str],
    folders: tuple[str, str] | None,
    read: Callable[[Sequence[str], int, int], Record],
    path: str,
    report: Report,
) -> Iterator[Record]:
    bare: list[str] = []
    for image in images:
        label_file = next(filter(os.path.isfile, _label_files(image, folders)), None)
        try:
            height, width = image_size(image, path)
            lines = [] if label_file is None else _lines(label_file, report)
        except RecordError as error:
            report.unusable(error)
            continue
        if label_file is None:
            bare.append(image)
        annotations = read_annotations(lines, read, report, height, width)
        yield {"file_name": image, "height": height, "width": width, "annotations": annotations}
    if len(bare) == len(images):
        raise DataError(
            f"{path}: none of {len(images)} images has a file of labels; that of {bare[0]!r} would "
            f"be {_label_files(bare[0], folders)[0]!r}. Where the folder of the images is "
            "image_root (--images), the path is that of the labels"
        )
    if bare:
        report.warn(
            f"{len(bare)} of {len(images)} images have no file of labels and count as images "
            f"without objects, the first: {bare[0]!r}. Remove those that nobody has labeled"
        )


def _tell_unused_labels(
    images: Sequence[str], folders: tuple[str, str] | None, report: Report
) -> None:
    files = {file for image in images for file in _label_files(image, folders)}
    for folder in sorted({os.path.dirname(file) for file in files}):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        for name in sorted(names):
            file = os.path.join(folder, name)
            if name.endswith(".txt") and name not in NAME_LISTS and file not in files:
                report.annotation("unknown image", file, "it has the labels of no image")


def _annotation(line: Sequence[str], height: int, width: int) -> Record:
    label = float(line[0])
    numbers = [float(text) for text in line[1:]]
    if label % 1:
        raise Unusable("unlisted class", f"the class is {line[0]}, no whole number")
    if any(abs(v) > _FARTHEST for v in numbers):
        what = f"{' '.join(line):.60}: YOLO's numbers are parts of width and height, from 0 to 1"
        raise Unusable("box not normalized", what)
    if len(numbers) == 4:
        x, y, w, h = numbers
        x0, y0, x1, y1 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        return labeled_box(int(label), (x0 * width, y0 * height, x1 * width, y1 * height))
    if len(numbers) < 6 or len(numbers) % 2:
        what = f"{len(numbers)} numbers behind the class: a box has 4, a polygon 6, 8, 10, ..."
        raise Unusable("bad line", what)
    points = list(zip(numbers[::2], numbers[1::2]))
    return labeled_polygon(int(label), [(x * width, y * height) for x, y in points])


def _box_annotation(line: Sequence[str], height: int, width: int) -> Record:
    return _annotation(line[:5], height, width)


def _lines(label_file: str, report: Report) -> list[tuple[str, tuple[str, ...]]]:
    """(where, the numbers of a line); a line that is there twice is one."""
    try:
        with open(label_file, encoding="utf-8-sig") as file:
            texts = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError("unreadable labels", label_file, str(error)) from None
    result: dict[tuple[str, ...], str] = {}
    for number, line in enumerate(map(tuple, map(str.split, texts)), 1):
        where = f"{label_file}: line {number}"
        if line in result:
            report.annotation("annotation written twice", where, f"{' '.join(line)} stands above")
        elif line:
            result[line] = where
    return [(where, line) for line, where in result.items()]


def _label_files(image: str, folders: tuple[str, str] | None) -> list[str]:
    """Where the labels of an image may be, given perhaps the folders of images and of labels."""
    stem = os.path.splitext(image)[0]
    if folders is not None:
        return [os.path.join(folders[1], os.path.relpath(stem, folders[0]) + ".txt")]
    before, found, behind = stem.rpartition(f"{os.sep}images{os.sep}")
    beside = [f"{before}{os.sep}labels{os.sep}{behind}.txt"] if found else []
    return [*beside, f"{stem}.txt"]


def yaml_of(path: str) -> str | None:
    """The yaml that describes a data set: the path itself, or the one in this folder.

    Raises:
        DataError: the folder has several.
    """
    if not os.path.isdir(path):
        return path if path.endswith((".yaml", ".yml")) else None
    found = [
        os.path.join(path, name)
        for name in sorted(os.listdir(path))
        if name.endswith((".yaml", ".yml"))
    ]
    found = [file for file in found if "names" in _read_yaml(file)]
    if len(found) > 1:
        raise DataError(f"{path} has several data sets, {', '.join(found)}: name one of them")
    return found[0] if found else None


def _folders_above(path: str) -> list[str]:
    """The folder of a path and the two above it."""
    folders = [path if os.path.isdir(path) else os.path.dirname(path)]
    for _ in range(2):
        folders.append(os.path.dirname(os.path.abspath(folders[-1])))
    return folders


def _yaml_above(path: str) -> str | None:
    found = (yaml_of(folder) for folder in _folders_above(path))
    return next((file for file in found if file is not None), None)


def _read_yaml(path: str) -> dict[str, Any]:
    """The content, every value as the text that it is: a class called `no` is no bool."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = yaml.load(file, Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise DataError(f"there is no file {path!r}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path!r} is no YAML that can be read: {error}") from None
    return content if isinstance(content, dict) else {}


def _names_of_yaml(content: dict[str, Any], path: str) -> dict[Label, str]:
    names = content.get("names")
    try:
        if not isinstance(names, dict):
            names = dict(enumerate(names if isinstance(names, list) else ()))
        result: dict[Label, str] = dict(
            sorted((int(number), name) for number, name in names.items())
        )
    except (TypeError, ValueError):
        result = {}
    if not result:
        raise DataError(f"{path}: 'names' must be a list, or a table of numbers, of class names")
    if (count := content.get("nc", str(len(result)))) != str(len(result)):
        raise DataError(f"{path}: 'nc' is {count}, but 'names' has {len(result)} names")
    return dict(sorted(result.items()))


def _names_beside(path: str) -> dict[Label, str]:
    for folder in _folders_above(path):
        for file in (os.path.join(folder, name) for name in NAME_LISTS):
            if os.path.isfile(file):
                with open(file, encoding="utf-8-sig") as lines:
                    # A line that is empty counts; it is told when the names are looked at.
                    return dict(enumerate(map(str.strip, lines.read().rstrip().splitlines())))
    return {}


def splits_of_yaml(path: str) -> tuple[str, ...]:
    """Which of `"train"`, `"val"`, `"test"` a yaml names that are there (Roboflow names all)."""
    content = _read_yaml(path)
    return tuple(
        split
        for split in SPLITS
        if any(os.path.exists(_places(e, path, content)[0]) for e in _entries(content, split))
    )


def _entries(content: dict[str, Any], split: str) -> list[str]:
    found: Any = next((content[key] for key in SPLITS[split] if content.get(key)), [])
    return found if isinstance(found, list) else [found]


def _images_of_split(path: str, content: dict[str, Any], split: str) -> list[str]:
    entries = _entries(content, split)
    if not entries and {"img", "label"} <= content.keys():
        raise DataError(
            f"{path} is of GLIP's TSV files, not of YOLO: say so, the format 'glip_tsv'"
        )
    if not entries:
        splits = ", ".join(splits_of_yaml(path)) or "nothing to train or test on"
        raise DataError(f"{path}: there is no {split!r}, only {splits}")
    result: dict[str, None] = {}
    for entry in entries:
        places = _places(entry, path, content)
        if not os.path.exists(places[0]):
            raise DataError(f"{path}: there is no {entry!r}; looked for {', '.join(places)}")
        folder = os.path.isdir(places[0])
        found = ImageFolder(places[0]).files if folder else _listed_images(places[0])
        result |= dict.fromkeys(found)
    return list(result)


def _places(entry: str, path: str, content: dict[str, Any]) -> list[str]:
    """Where a folder or list of a yaml may be, that which exists first: below `path:`, or, on the
    machine to which the data set was copied, below the folder of the yaml. Roboflow begins with
    a `../` too many."""
    here, entry = os.path.dirname(path), entry.replace("\\", "/")
    root = content.get("path", "")
    places = [
        os.path.normpath(os.path.join(start, end))
        for end in (entry, entry.removeprefix("../"))
        for start in ([root, os.path.join(here, root), here] if root else [here])
    ]
    return sorted(dict.fromkeys(places), key=lambda place: not os.path.exists(place))


def _listed_images(path: str) -> list[str]:
    """The images of a list, whose lines are relative to it or to a folder above it."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip().replace("\\", "/") for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list of images {path!r} cannot be read: {error}") from None
    folders = _folders_above(path)
    return [_listed_image(line, folders) for line in lines]


def _listed_image(line: str, folders: Sequence[str]) -> str:
    places = [os.path.normpath(os.path.join(folder, line)) for folder in folders]
    return next((place for place in places if os.path.exists(place)), places[0])
