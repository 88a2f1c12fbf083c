"""COCO json: a reader that leaves out what is wrong, and the detection sets in this format.

Detectron2's `load_coco_json` stops at a duplicate id or an unknown category. This one gives the
same records for a sound file, counts what is wrong with any other, keeps `neg_category_ids`
(federated annotations), and can repair class names and paths while it reads.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypedDict

import msgspec
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

from ...errors import DataError
from ...language.class_names import root_class_warning
from ..checks import not_utf8
from ..entries import Problem, id_problem, make_ids_plain, short, sound_entries
from ..report import Record, Report, reported

# Of an image, where the file has them: what federated data verify, and what evaluators look up.
IMAGE_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
ANNOTATION_KEYS = ("id", "iscrowd", "bbox", "keypoints", "category_id")


class _Boxes(TypedDict, total=False):
    """What is read of an annotation without its mask; `area` tells apart what is written twice."""

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    iscrowd: Any
    keypoints: Any
    area: Any


class _WithoutMasks(TypedDict, total=False):
    """A COCO json without the corners of its polygons, which are nine tenths of COCO's files."""

    images: Any
    annotations: list[_Boxes]
    categories: Any


def load_coco_style_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    classes: Sequence[str] | None = None,
    rename: Callable[[str], str] | None = None,
    keep_folders: int | None = None,
    coco_urls: bool = False,
    with_masks: bool = True,
) -> list[Record]:
    """Detection records of a COCO json, sorted by image id as Detectron2's.

    Args:
        json_file: `images[]`, `annotations[]`, `categories[]`. A test set whose truth its
            server keeps has no `annotations`, and so have its records.
        image_root: the folder of the images.
        dataset_name: its metadata gets `thing_classes` and `thing_dataset_id_to_contiguous_id`.
        report: takes what is left out; one of its own by default, which is logged.
        classes: other names for the categories, in the order of their ids.
        rename: repairs a category name.
        keep_folders: of `file_name` only so many folders before the file are kept
            (Objects365 v2 names its images by paths that are not those of the release).
        coco_urls: the file names are the last two parts of `coco_url` (LVIS).
        with_masks: False: `segmentation` is left out, and what is wrong with it not told, in half
            the time and a third of the memory.

    Raises:
        DataError: the file is missing, no such json, has no categories, or its categories do not
            fit the names that the data set was registered with.
    """
    fields = {"images", "annotations", "categories"}
    form = Any if with_masks else _WithoutMasks
    content = read_json(json_file, fields, "COCO's format", optional={"annotations"}, form=form)
    ids, names = read_categories(content["categories"], json_file)
    if classes is not None and len(classes) != len(ids):
        raise DataError(
            f"{json_file}: 'categories' has {len(ids)} entries ({', '.join(names[:5])}, ...), "
            f"but {len(classes)} class names are known ({', '.join(classes[:5])}, ...)"
        )
    names = list(classes or map(rename or str, names))
    contiguous = {category: index for index, category in enumerate(ids)}
    if dataset_name is not None:
        set_vocabulary(dataset_name, names, contiguous, json_file)
    if coco_urls:
        for image in content["images"]:
            if isinstance(image, dict):
                url = image.get("coco_url")
                image["file_name"] = "/".join(str(url or "").split("/")[-2:]) or None
    with reported(json_file, report) as report:
        images, by_image = coco_entries(content, contiguous, json_file, report)
        is_annotated = content.pop("annotations", None) is not None  # each is gone when converted
        for entries in by_image.values():
            entries[:] = [detectron2_annotation(e, contiguous, json_file, report) for e in entries]
        used = {a["category_id"] for entries in by_image.values() for a in entries}
        report.warn(root_class_warning(content["categories"], [ids[i] for i in used]))
    if not is_annotated:
        by_image.clear()
    return [
        _record(image, by_image.get(key), image_root, keep_folders, dataset_name)
        for key, image in images.items()
    ]


def coco_entries(
    content: Mapping[str, Any], contiguous: Mapping[int, int], json_file: str, report: Report
) -> tuple[dict[Any, Record], dict[Any, list[Record]]]:
    """`sound_entries` of a COCO json in the order of the image ids, for training and as ground
    truth alike; `contiguous`: the ids of the categories -> class ids."""
    images, by_image = sound_entries(
        content,
        json_file,
        report,
        required=("id", "file_name", "height", "width"),
        image_problem=_image_problem,
        annotation_problem=partial(_annotation_problem, contiguous),
    )
    # Numbers before texts, which cannot be compared.
    return dict(sorted(images.items(), key=lambda i: (isinstance(i[0], str), i[0]))), by_image


def read_json(
    json_file: str,
    fields: set[str],
    format_name: str,
    optional: Collection[str] = (),
    form: Any = Any,
) -> dict[str, Any]:
    """A json object with these lists, of which the optional ones may be missing.

    `form`: see `load_json`.

    Bytes that are not UTF-8 become lone surrogates; ids that are texts of numbers become these
    numbers, see `plain_id`.

    Raises:
        DataError: the file is missing, no json, or lacks a field.
    """
    content = load_json(json_file, "annotation file", form)
    found = content.keys() if isinstance(content, dict) else set()
    if not fields - set(optional) <= found:
        missing = sorted(fields - found)
        raise DataError(f"{json_file}: not in {format_name}: the lists {missing} are missing")
    for field in fields & found:
        if not isinstance(content[field], list):
            raise DataError(f"{json_file}: the field {field!r} is not a list")
    make_ids_plain(content)
    return content


def load_json(path: str, kind: str, form: Any = Any) -> Any:
    """What a json file holds.

    Args:
        path: of the file.
        kind: what the file is, for the messages.
        form: a type with the fields that are wanted: the others take no time and no memory. A file
            that is not of this type is read whole.

    Raises:
        DataError: the file cannot be read, or is no json.
    """
    try:
        with PathManager.open(path, "rb") as file:
            content = file.read()
        try:
            with suppress(msgspec.ValidationError):
                return msgspec.json.decode(content, type=form)
            return msgspec.json.decode(content)  # in a third of the time of Python's own
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Python's takes NaN and half of a surrogate pair, too, and tells the line of a mistake.
            # "sig": editors on Windows put a byte order mark before the text.
            return json.loads(content.decode("utf-8-sig", "surrogateescape"))
    except FileNotFoundError:
        raise DataError(f"there is no {kind} {path!r}") from None
    except OSError as error:
        raise DataError(f"the {kind} {path!r} cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"the {kind} {path!r} is no valid json: {error}") from error


def set_vocabulary(
    dataset_name: str, names: list[str], ids: Mapping[int, int], json_file: str
) -> None:
    """Put class names and the contiguous ids of the file's categories into the metadata.

    Raises:
        DataError: the metadata has other ones already.
    """
    metadata = MetadataCatalog.get(dataset_name)
    for field, value in (
        ("thing_classes", names),
        ("thing_dataset_id_to_contiguous_id", dict(ids)),
    ):
        known = metadata.get(field)
        if known is not None and known != value:
            raise DataError(
                f"{json_file}: the categories of the file do not fit {field} in the metadata of "
                f"{dataset_name!r}: {short(value, 80)} in the file, {short(known, 80)} registered"
            )
        metadata.set(**{field: value})


def read_categories(entries: list, json_file: str) -> tuple[list[int], list[str]]:
    """The ids of the categories, ascending, and their names in this order.

    Raises:
        DataError: there are none, or one has no number or no name, or that of another.
    """
    if not entries:
        raise DataError(
            f"{json_file}: 'categories' is empty, so no class can be named; captions with boxes "
            "are registered by register_grounding_dataset"
        )
    names = {}
    for index, entry in enumerate(entries):
        place = f"{json_file}: category {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int):
            raise DataError(f"{place}: the field 'id' is missing or not an integer")
        if entry["id"] in names:
            raise DataError(f"{place}: the field 'id' is {entry['id']} as that of another category")
        if not isinstance(entry.get("name"), str) or not entry["name"].strip():
            raise DataError(f"{place} (id {entry['id']}): the field 'name' is missing or empty")
        if not_utf8(entry["name"]):
            what = f"the field 'name' is not UTF-8: {entry['name']!r}"
            raise DataError(f"{place} (id {entry['id']}): {what}")
        names[entry["id"]] = entry["name"]
    ids = sorted(names)
    return ids, [names[i] for i in ids]


def _image_problem(image: Record) -> Problem | None:
    negatives = image.get("neg_category_ids", [])
    if isinstance(negatives, list) and not any(id_problem(i) for i in negatives):
        return None
    return "bad field", f"'neg_category_ids' is no list of ids: {negatives!r:.60}"


def _annotation_problem(contiguous: Mapping[int, int], entry: Record) -> Problem | None:
    category = entry.get("category_id")
    if id_problem(category) or category not in contiguous:
        return "unknown class", f"category_id={category!r} is not in 'categories'"
    if not entry.get("bbox"):
        return "bad box", "the field 'bbox' is missing or empty"
    return None


def detectron2_annotation(
    entry: Record, contiguous: Mapping[int, int], json_file: str, report: Report
) -> Record:
    """In Detectron2's form, without polygons that have no area: its box is no worse for it."""
    annotation = {k: entry[k] for k in ANNOTATION_KEYS if k in entry}
    if segmentation := entry.get("segmentation"):
        mask = _mask(segmentation)
        if mask:
            annotation["segmentation"] = mask
        if mask != segmentation:
            what = "the field 'segmentation' has a polygon of fewer than three corners"
            where = f"{json_file}: image {entry['image_id']!r}, annotation (id {entry.get('id')})"
            report.mask("bad mask", where, what)
    annotation["bbox_mode"] = BoxMode.XYWH_ABS
    annotation["category_id"] = contiguous[entry["category_id"]]
    return annotation


def _mask(segmentation: Any) -> Any:
    """Polygons without those of fewer than three corners, as in Detectron2; the rest as it is."""
    if not isinstance(segmentation, list):
        return segmentation
    return [p for p in segmentation if not isinstance(p, list) or (len(p) % 2 == 0 and len(p) >= 6)]


def _record(
    image: Record,
    annotations: list[Record] | None,
    image_root: str,
    keep_folders: int | None,
    dataset_name: str | None,
) -> Record:
    file_name = image["file_name"]
    if keep_folders is not None:
        file_name = "/".join(file_name.split("/")[-1 - keep_folders :])
    path = os.path.join(image_root, file_name)
    if "\\" in file_name and not os.path.exists(path):  # written on Windows
        path = os.path.join(image_root, file_name.replace("\\", "/"))
    record = {"file_name": path, "height": image["height"], "width": image["width"]}
    record["image_id"] = image["id"]
    if annotations is not None:
        record["annotations"] = annotations
    if dataset_name is not None:
        record["dataset_name"] = dataset_name
    record.update((key, image[key]) for key in IMAGE_KEYS if key in image)
    return record
