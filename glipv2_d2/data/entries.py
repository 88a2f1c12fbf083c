"""What json files hold may be anything: entries that are no objects, ids that are no keys.

What is written in another way and still has one meaning is taken for that: by
`plain_id`, `plain_number` and `plain_annotation`, for every reader, check and
evaluator alike. What has not one meaning is left as it is, and refused by whoever needs it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from .report import Record, RecordError, Report

# What json files, and users' own readers, have for a number.
NUMBERS = (int, float, np.integer, np.floating)
_OF_JSON = {int, float}
_INTEGERS = (int, np.integer)
Problem = tuple[str, str]  # (kind, what), as a `Report` takes them


def json_objects(
    values: Iterable[Any], place: str, tell: Callable[[str, str, str], None]
) -> Iterator[tuple[int, Record]]:
    """(number, entry) of those values that are json objects.

    Args:
        values: a list out of a json file.
        place: file and field, for the messages.
        tell: takes the others: `record` or `annotation` of a `Report`.
    """
    for number, value in enumerate(values):
        if isinstance(value, dict):
            yield number, value
        else:
            tell("no json object", f"{place}[{number}]", f"{short(value)} is no json object")


def id_problem(value: Any) -> str | None:
    """Why a value is no id (a number or a text); None if it is one."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return None
    return f"{short(value)} is neither a number nor a text"


def plain_id(value: Any) -> Any:
    """The number that an id stands for (`"7"`, `7.0`); any other value as it is.

    `"007"` stays a text: it and `"7"` may be two images.
    """
    if isinstance(value, str):
        digits = value.removeprefix("-")
        # isascii: int() takes the digits of other scripts too.
        if digits.isascii() and digits.isdecimal() and str(int(value)) == value:
            return int(value)
    elif isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def plain_number(value: Any) -> Any:
    """The number that a text stands for (`" 1.5"`); any other value as it is."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


_CROWD: dict[Any, int] = {None: 0, 0: 0, 1: 1, "0": 0, "1": 1}  # False and True are 0 and 1


def plain_annotation(entry: Record) -> Record:
    """The annotation itself, or a copy with `bbox` as numbers and `iscrowd` as 0 or 1."""
    changed = {}
    box, crowd = entry.get("bbox"), entry.get("iscrowd", 0)
    if isinstance(box, np.ndarray):
        changed["bbox"] = box.tolist()
    elif isinstance(box, (list, tuple)) and not _OF_JSON.issuperset(map(type, box)):
        if any(isinstance(x, str) for x in box):
            changed["bbox"] = [plain_number(x) for x in box]
    if crowd is None or isinstance(crowd, (str, float, bool)):
        changed["iscrowd"] = _CROWD.get(crowd, crowd)
    return {**entry, **changed} if changed else entry


def make_ids_plain(content: Mapping[str, Any]) -> None:
    """`plain_id` for every id in the lists of a COCO json, in place."""
    for field, keys in _IDS.items():
        entries = content.get(field)
        for entry in entries if isinstance(entries, list) else ():
            if not isinstance(entry, dict):
                continue
            for key in keys:
                value = entry.get(key)
                if isinstance(value, list):
                    entry[key] = [plain_id(i) for i in value]
                elif isinstance(value, (str, float)):
                    entry[key] = plain_id(value)


_IDS = {
    "images": ("id", "neg_category_ids", "not_exhaustive_category_ids"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id",),
}


def crowd_problem(value: Any) -> str | None:
    """Why a value of `iscrowd` has no meaning; None if it has one."""
    if isinstance(value, _INTEGERS) and value in (0, 1):
        return None
    return f"the field 'iscrowd' is {short(value)}, neither 0 nor 1"


def sound_entries(
    content: Mapping[str, Any],
    json_file: str,
    report: Report,
    *,
    required: Sequence[str],
    image_problem: Callable[[Record], Problem | None],
    annotation_problem: Callable[[Record], Problem | None],
) -> tuple[dict[Any, Record], dict[Any, list[Record]]]:
    """What of a COCO or MDETR json can be used.

    Nothing refers to the id of an annotation, so that it may be anything, and two annotations may
    have the same one; but two that are equal in every field are one that is written twice (as in
    COCO's minival2014).

    Args:
        content: with the lists `images` and perhaps `annotations`.
        json_file: for the messages.
        report: takes what is left out.
        required: fields that an image must have, `id` and `file_name` among them.
        image_problem, annotation_problem: what else is wrong with an entry, for its format.

    Returns:
        The entries of `images`, by id; by the same ids the lists of their `annotations`, with
        numbers as numbers.
    """
    ids = (image.get("id") for image in content["images"] if isinstance(image, dict))
    counts = Counter(i for i in ids if id_problem(i) is None)
    images = {}
    for index, image in json_objects(content["images"], f"{json_file}: images", report.record):
        problem = _image_problem(image, required, counts) or image_problem(image)
        if problem is None:
            images[image["id"]] = image
            continue
        name = f"image {image.get('id')!r} ({image.get('file_name')})"
        report.record(problem[0], f"{json_file}: images[{index}], {name}", problem[1])
    by_image: dict[Any, list[Record]] = {key: [] for key in images}
    seen: dict[Any, Record] = {}
    place, entries = f"{json_file}: annotations", content.get("annotations", ())
    for index, entry in json_objects(entries, place, report.annotation):
        problem = _annotation_problem(entry, images, seen) or annotation_problem(entry)
        if problem is None:
            by_image[entry["image_id"]].append(plain_annotation(entry))
            continue
        name = f"image {entry.get('image_id')!r}, annotation {index} (id {entry.get('id')})"
        report.annotation(problem[0], f"{json_file}: {name}", problem[1])
    return images, by_image


def _image_problem(image: Record, required: Sequence[str], counts: Counter) -> Problem | None:
    missing = [field for field in required if image.get(field) is None]
    if missing:
        return "missing field", f"the field {missing[0]!r} is missing"
    if problem := id_problem(image["id"]):
        return "bad id", f"the field 'id': {problem}"
    if counts[image["id"]] > 1:
        # Whose the annotations are cannot be told.
        return "duplicate image id", f"the field 'id' is that of {counts[image['id']]} images"
    if problem := file_name_problem(image["file_name"]):
        return "bad file name", f"the field 'file_name': {problem}"
    return None


def _annotation_problem(
    entry: Record, images: Mapping[Any, Record], seen: dict[Any, Record]
) -> Problem | None:
    image, key = entry.get("image_id"), entry.get("id")
    if id_problem(image) or image not in images:
        return "unknown image", f"the field 'image_id' is that of no image: {short(image)}"
    if id_problem(key) is None:
        first = seen.setdefault(key, entry)
        if first is not entry and first == entry:
            return "annotation written twice", "it is equal to an earlier annotation, its 'id' too"
    return None


def file_name_problem(value: Any) -> str | None:
    """Why a value names no file; None if it does."""
    if not isinstance(value, str) or not value.strip():
        return f"{short(value)} is no file name"
    try:
        os.fsencode(value)
    except ValueError:  # lone surrogates
        return f"{short(value)} holds characters that no file system has"
    return None


_KINDS: dict[type, str] = {list: "list", dict: "json object", str: "text"}


def field_of(entry: Record, field: str, kind: type, where: str) -> Any:
    """The field of a json object; one that is missing or null is an empty `kind`.

    Raises:
        RecordError: it is of another type.
    """
    value = entry.get(field)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        what = f"the field {field!r} is no {_KINDS[kind]}: {short(value)}"
        raise RecordError("bad field", where, what)
    return value


def short(value: Any, most: int = 60) -> str:
    """What a value looks like, in so many characters at most."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
