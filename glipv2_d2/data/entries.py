"""What json files hold may be anything: entries that are no objects, ids that are no keys."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from glipv2_d2.data.problems import RecordError

Record = dict[str, Any]
Report = Callable[[str, str, str], None]


def json_objects(values: Iterable[Any], place: str, report: Report) -> Iterator[tuple[int, Record]]:
    """(number, entry) of those values that are json objects.

    Args:
        values: a list out of a json file.
        place: file and field, for the messages.
        report: takes the others: ``record`` or ``annotation`` of a
            :class:`~glipv2_d2.data.problems.ProblemLog`.
    """
    for number, value in enumerate(values):
        if isinstance(value, dict):
            yield number, value
        else:
            report("no json object", f"{place}[{number}]", f"{_short(value)} is no json object")


def id_problem(value: Any) -> str | None:
    """Why a value is no id (a number or a text); None if it is one."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return None
    return f"{_short(value)} is neither a number nor a text"


def image_problem(
    image: Record, fields: Iterable[str], counts: Counter
) -> tuple[str, str] | None:
    """(kind, what) that is wrong with the fields of an ``images[]`` entry; None if nothing is.

    Args:
        image: the entry.
        fields: what it must have, ``id`` and ``file_name`` among them.
        counts: how often each id occurs (see :func:`count_ids`).
    """
    missing = [field for field in fields if image.get(field) is None]
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


def count_ids(images: Iterable[Any]) -> Counter:
    """How often each id occurs among ``images[]``."""
    ids = (image.get("id") for image in images if isinstance(image, dict))
    return Counter(i for i in ids if id_problem(i) is None)


def annotation_problem(
    entry: Record, images: Mapping[Any, Any], seen: set
) -> tuple[str, str] | None:
    """(kind, what) that is wrong with the ids of an ``annotations[]`` entry; None if nothing is.

    Args:
        entry: the entry.
        images: the usable ones, by id.
        seen: the ids met before; that of the entry is added.
    """
    image, key = entry.get("image_id"), entry.get("id")
    if id_problem(image) or image not in images:
        return "unknown image", f"the field 'image_id' is that of no image: {_short(image)}"
    if key is None:
        return None
    if problem := id_problem(key):
        return "bad id", f"the field 'id': {problem}"
    if key in seen:
        return "duplicate annotation id", "the field 'id' is not unique"
    seen.add(key)
    return None


def file_name_problem(value: Any) -> str | None:
    """Why a value names no file; None if it does."""
    if not isinstance(value, str) or not value.strip():
        return f"{_short(value)} is no file name"
    try:
        os.fsencode(value)
    except ValueError:  # lone surrogates
        return f"{_short(value)} holds characters that no file system has"
    return None


def field_of(entry: Record, field: str, kind: type, where: str) -> Any:
    """The field of a json object; one that is missing or null is an empty ``kind``.

    Raises:
        RecordError: it is of another type.
    """
    value = entry.get(field)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        name = {list: "list", dict: "json object", str: "text"}[kind]
        raise RecordError("bad field", where, f"the field {field!r} is no {name}: {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
