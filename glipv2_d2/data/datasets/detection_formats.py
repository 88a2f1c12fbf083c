"""A user's own boxes in the formats of labeling tools, as they are exported."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DataError, UsageError
from ..report import Record, RecordError, Report
from .coco_like import load_coco_style_json, load_json
from .cvat import cvat_splits, read_cvat
from .label_studio import read_label_studio
from .labeled_images import MISSING, ImageFolder, LabeledImages, load_labeled_images
from .labelme import read_labelme
from .odvg import load_odvg
from .pascal_voc import parse_xml, read_voc
from .register import register_reader
from .yolo import NAME_LISTS, SPLITS, read_yolo, splits_of_yaml, yaml_of

# Formats whose readers are called as `load_labeled_images` says.
_READERS: dict[str, Callable[..., LabeledImages]] = {
    "cvat": read_cvat,
    "label_studio": read_label_studio,
    "labelme": read_labelme,
    "voc": read_voc,
    "yolo": read_yolo,
}
DETECTION_FORMATS = ("coco", "odvg", *sorted(_READERS))

_HEAD = 1 << 20  # bytes of a json that are looked at


class Export(NamedTuple):
    """Where the annotations of a format are.

    Attributes:
        format: one of `DETECTION_FORMATS`.
        path: the file or the folder that its reader takes.
        split: what is left for the reader to choose by: of a YOLO yaml, of VOC's `ImageSets`, of
            CVAT's subsets.
    """

    format: str
    path: str
    split: str | None = None


def register_detection_dataset(
    name: str,
    path: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    format: str = "auto",
    *,
    classes: Sequence[str] | None = None,
    split: str | None = None,
    reader_options: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> None:
    """Register boxes, and masks where there are any, as a labeling tool exports them.

    The records are those of any detection data set, and `SubsetCOCOEvaluator` scores them. Where
    the annotations are and in which format is found out now, and they are read when they are first
    used. The same once more changes nothing.

    Args:
        name: for `DatasetCatalog`, the `datasets` of a configuration and its test set.
        path: the file, or the folder into which the export was unpacked.
        image_root: the folder of the images; None: they are looked for beside the annotations.
        format: one of `DETECTION_FORMATS`; `"auto"`: see `detect_format`.
        classes: the class names. Of COCO and YOLO, which number their classes, other names in
            their order; of ODVG its label map; of the others those that are used, in this order,
            and annotations of others are left out and counted.
        split: `"train"`, `"val"` or `"test"` of an export that has several; None: `"train"`.
        reader_options: further arguments of the format's reader, of `load_coco_style_json` say.
        metadata: goes into `MetadataCatalog` besides `evaluator_type="coco"`.

    Raises:
        UsageError: an unknown format or split.
        DataError: there is nothing at the path, or no such split, or its format cannot be told; or
            the name is registered with other arguments.
    """
    found = find_export(path, format, split)
    options = dict(reader_options or {})
    if classes is not None:
        options["classes"] = list(classes)
    root = _image_root(found) if image_root is None else os.fspath(image_root)
    if found.split is not None and found.format != "coco":
        options["split"] = found.split
    fields = {"evaluator_type": "coco", **metadata}
    if found.format != "coco":
        fields = {"format": found.format, **fields}
    register_reader(name, _reader(found.format), found.path, root, options, fields)


def _reader(format: str) -> Callable[..., list[Record]]:
    if format == "coco":
        return _load_coco
    return partial(load_labeled_images, _READERS[format]) if format != "odvg" else _load_odvg_boxes


def _load_coco(
    path: str,
    image_root: str,
    dataset_name: str,
    *,
    report: Report,
    with_masks: bool = True,
    **options: Any,
) -> list[Record]:
    records = load_coco_style_json(
        path, image_root, dataset_name, report=report, with_masks=with_masks, **options
    )
    return _with_images_found(records, path, image_root, report)


def _with_images_found(
    records: list[Record], source: str, image_root: str, report: Report
) -> list[Record]:
    """The records with images that are not where their names say, but below the folder: names are
    often paths of another computer. One that is nowhere is told by whoever looks for the files."""
    folder, kept, moved = ImageFolder(image_root), [], []
    for record in records:
        if not os.path.isfile(path := record["file_name"]):
            name = path.removeprefix(os.path.join(image_root, ""))
            where = f"{source}: image {record.get('image_id')!r}"
            try:
                record = {**record, "file_name": folder.find([name], where)}
                moved.append(f"{name!r} is {record['file_name']!r}")
            except RecordError as error:
                if error.kind != MISSING:
                    report.unusable(error)
                    continue
        kept.append(record)
    if moved:  # never without a word: a name without its folder may be that of another image
        report.warn(
            f"{len(moved)} images are taken by the end of their name; the first: {moved[0]}"
        )
    return kept


def _load_odvg_boxes(
    path: str,
    image_root: str,
    dataset_name: str,
    *,
    report: Report,
    classes: Sequence[str] | None = None,
    **options: Any,
) -> list[Record]:
    if classes is not None:
        options["label_map"] = {str(label): name for label, name in enumerate(classes)}
    records = list(load_odvg(path, image_root, dataset_name, report=report, **options))
    if any("caption" in record for record in records):
        raise DataError(
            f"{path} has captions ('grounding' lines): register_grounding_dataset(..., "
            "format='odvg') registers it"
        )
    return _with_images_found(records, path, image_root, report)


def detect_format(path: str | os.PathLike) -> str:
    """Which of `DETECTION_FORMATS` a file or folder has, by its names and its first lines.

    Raises:
        DataError: there is nothing, or none of them.
    """
    return find_export(path).format


def export_splits(path: str | os.PathLike) -> tuple[str, ...]:
    """Which of `"train"`, `"val"` and `"test"` an export has; empty for one that is not split."""
    path = os.fspath(path)
    if own := yaml_of(path):
        return splits_of_yaml(own)
    lists = {p.stem for p in Path(path, "ImageSets", "Main").glob("*.txt")}
    if found := tuple(_split_folders(path)) or tuple(s for s in SPLITS if s in lists):
        return found
    export = find_export(path)
    return _cvat_splits(export.path) if export.format == "cvat" else ()


def find_export(path: str | os.PathLike, format: str = "auto", split: str | None = None) -> Export:
    """Find the annotations at a path; arguments and errors of `register_detection_dataset`."""
    path = os.fspath(path)
    if format not in ("auto", *DETECTION_FORMATS):
        raise UsageError(
            f"unknown format {format!r} for detection data, known: {', '.join(DETECTION_FORMATS)} "
            "(captions with boxes are registered by register_grounding_dataset)"
        )
    if split not in (None, *SPLITS):
        raise UsageError(f"unknown split {split!r}, known: {', '.join(SPLITS)}")
    if not os.path.exists(path):
        raise DataError(f"there is no file or folder {path!r}")
    own = yaml_of(path) if format in ("auto", "yolo") else None
    if own is None and (folders := _split_folders(path)):
        chosen = split or "train"
        if chosen not in folders:
            raise DataError(f"{path} has no {chosen!r}, only {', '.join(folders)}: name the folder")
        return find_export(folders[chosen], format)
    format = _format_of(path) if format == "auto" else format
    lists = Path(path, "ImageSets", "Main")
    if format == "voc" and split is None and (lists / "train.txt").is_file():
        split = "train"
    elif split is not None and not (own or format in ("voc", "cvat")):
        raise DataError(f"{path} has no splits: give the path of its {split!r} part instead")
    if format in ("coco", "odvg", "cvat", "label_studio") and os.path.isdir(path):
        path = _only_file(path, _SUFFIXES[format])
    if format == "cvat":
        split = _chosen_subset(path, split)
    return Export(format, own or path, split)


def _chosen_subset(path: str, split: str | None) -> str | None:
    splits = _cvat_splits(path)
    if split is not None and split not in splits:
        known = f"only {', '.join(splits)}" if splits else "it is not split into subsets"
        raise DataError(f"{path} has no {split!r}: {known}")
    return split or ("train" if splits else None)


def _cvat_splits(path: str) -> tuple[str, ...]:
    """The subsets, where there are several of which one is for training."""
    splits = cvat_splits(path)
    return splits if len(splits) > 1 and "train" in splits else ()


_SUFFIXES = {"coco": ".json", "odvg": ".jsonl", "cvat": ".xml", "label_studio": ".json"}
_XML = {"annotation": "voc", "annotations": "cvat"}


def _format_of(path: str) -> str:
    if os.path.isdir(path):
        return _format_of_folder(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".yaml", ".yml", ".txt"):
        return "yolo"
    if suffix == ".jsonl":
        return "odvg"
    if suffix == ".json":
        return _format_of_json(path)
    if suffix == ".xml" and (found := _XML.get(_root_tag(path))):
        return found
    remedy = "unpack it first" if suffix == ".zip" else f"known: {', '.join(DETECTION_FORMATS)}"
    raise DataError(f"{path} has none of the formats of detection data: {remedy}")


def _format_of_folder(path: str) -> str:
    names = sorted(os.listdir(path))
    # Label Studio's YOLO export has a notes.json too, and Roboflow's exports have README.txt.
    if yaml_of(path) or {"labels", *NAME_LISTS} & {*names} or _is_labeled_image_folder(path, names):
        return "yolo"
    for inner in (path, *(os.path.join(path, n) for n in ("Annotations", "annotations"))):
        for suffix in (".xml", ".jsonl", ".json"):  # ODVG's label map is a json
            if found := _first_file(inner, suffix):
                return _format_of(found)
    raise DataError(
        f"{path} has none of the formats of detection data ({', '.join(DETECTION_FORMATS)}): "
        "there is no yaml, xml, json or jsonl, and no txt of an image. Name the file, or the format"
    )


def _is_labeled_image_folder(path: str, names: Sequence[str]) -> bool:
    """Whether text files beside images, or in a folder `labels` beside `images`, label them."""
    stems = {os.path.splitext(name)[0] for name in names if not name.endswith(".txt")}
    if any(name.endswith(".txt") and name[:-4] in stems for name in names):
        return True
    folder = os.path.abspath(path) + os.sep
    twin = "labels".join(folder.rsplit("images", 1)) if f"{os.sep}images{os.sep}" in folder else ""
    return bool(twin) and _first_file(twin, ".txt") is not None


def _first_file(folder: str, suffix: str) -> str | None:
    """The first file of a kind, rather in the folder itself than below."""
    for pattern in ("*", "**/*"):
        if found := sorted(Path(folder).glob(pattern + suffix)):
            return str(found[0])
    return None


def _only_file(folder: str, suffix: str) -> str:
    for inner in (folder, os.path.join(folder, "annotations")):
        found = sorted(map(str, Path(inner).glob(f"*{suffix}")))
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"{folder} has several files, {', '.join(found)}: name one of them")
    raise DataError(f"{folder} has no {suffix} file")


def _root_tag(path: str) -> str:
    try:
        return parse_xml(path).tag
    except RecordError as error:
        raise DataError(str(error)) from None


def _head(path: str) -> str:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read(_HEAD)


def _format_of_json(path: str) -> str:
    head = _head(path)
    if head.lstrip().startswith("["):
        return "label_studio"
    return "labelme" if re.search(r'"shapes"\s*:', head) else "coco"


def _split_folders(path: str) -> dict[str, str]:
    """Split -> its folder: `train`, `valid` and `test` of Roboflow, `images/train` of others."""
    for folder in (path, os.path.join(path, "images")):
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found = {
            split: os.path.join(folder, name)
            for split, keys in SPLITS.items()
            for name in names
            if name.lower() in keys and os.path.isdir(os.path.join(folder, name))
        }
        if "train" in found:
            return found
    return {}


def _image_root(found: Export) -> str:
    """Where the images are, as far as the place of the annotations tells."""
    if found.format == "yolo":
        return ""  # each image tells where its labels are
    folder = found.path if os.path.isdir(found.path) else os.path.dirname(found.path) or "."
    if found.format in _IMAGE_KEYS:
        return _root_of_names(found.path, folder, _IMAGE_KEYS[found.format])
    above = os.path.dirname(os.path.abspath(folder))
    inner = [os.path.join(f, name) for f in (folder, above) for name in ("JPEGImages", "images")]
    for place in (*inner[:2], folder, *inner[2:]):
        if os.path.isdir(place) and ImageFolder(place).files:
            return place
    return folder


_IMAGE_KEYS = {"coco": "file_name", "odvg": "filename"}


def _root_of_names(path: str, folder: str, key: str) -> str:
    """The folder from which the first name of an image leads to a file.

    Raises:
        DataError: there is none.
    """
    text = _first_name(path, key)
    above = os.path.dirname(os.path.abspath(folder))
    near = [os.path.join(f, name) for f in (folder, above) for name in ("", "images", "JPEGImages")]
    # annotations/instances_val2017.json belongs to val2017, CVAT's instances_default.json to
    # images/default.
    stem = os.path.splitext(os.path.basename(path))[0]
    near += [e.path for f in near if os.path.isdir(f) for e in os.scandir(f) if e.name in stem]
    for root in near:
        if os.path.isfile(os.path.join(root, text)):
            return os.path.normpath(root)
    with suppress(RecordError):  # named as on another computer
        ImageFolder(folder).find([text], path)
        return folder
    raise DataError(
        f"{path}: its first image, {text!r}, is neither in {folder} nor in the folders near it: "
        "name the folder of the images, image_root (--images)"
    )


def _first_name(path: str, key: str) -> str:
    """The first image that a json names; it is only read to the end if its head has none."""
    name = re.search(rf'"{key}"\s*:\s*("(?:[^"\\]|\\.)*")', _head(path))
    if name:
        return json.loads(name.group(1)).replace("\\", "/")
    content = load_json(path, "annotation file")
    images = content.get("images") if isinstance(content, dict) else None
    names = [i.get(key) for i in images or () if isinstance(i, dict)]
    return str(next(filter(None, names), "")).replace("\\", "/")
