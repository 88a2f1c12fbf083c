"""The class names of data sets: where they are, when two are one, and what is wrong with some.

A class is its number; its name is what the model reads. Classes that are written alike in a prompt
(equal once cleaned by `clean_name`, case and Unicode form apart) are one phrase to the model. One
rule for them, everywhere: they are positive together in training (`DetectionPromptSampler`), each
is asked for and scored by its own number in evaluation, as in the official protocol of LVIS, and
whoever reads the data is told.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ..errors import PromptError
from .prompt import clean_name

# What labeling tools call that which is no thing, punctuation apart (labelme: `_background_`).
_NO_THINGS = ("background", "bg", "ignore", "ignored", "unlabeled", "unlabelled", "void")
_MOST_NAMED = 5
_ARTICLE = re.compile(r"^(?:an?|the)\s+")


class PhraseNames(list[str]):
    """`thing_classes` of a grounding data set: the phrases of its captions, numbered for people.

    Detectron2's own tools that draw data want them. They are no vocabulary.
    """


def detection_classes(dataset: str, read: bool = False) -> list[str] | None:
    """The class names of a registered data set by class id; None for one of captions.

    Args:
        dataset: its name in Detectron2's catalog.
        read: whether to read the data set where its classes are not known before, as COCO's json
            names them.
    """
    metadata = MetadataCatalog.get(dataset)
    if read and metadata.get("thing_classes") is None and dataset in DatasetCatalog.list():
        DatasetCatalog.get(dataset)
    names = metadata.get("thing_classes")
    return None if isinstance(names, PhraseNames) else names


def written_alike(names: Sequence[str]) -> list[tuple[int, ...]]:
    """For each class the ids of all that are written as it is, itself among them, ascending."""
    keys = [_one_form(_written(name)) for name in names]
    ids: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        ids.setdefault(key, []).append(i)
    return [tuple(ids[key]) for key in keys]


def near_duplicates(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that are written differently and are perhaps one class.

    They are the same without spaces, punctuation and a plural's ending, or, where they are not
    short and have no digits, differ by one letter. Those that a prompt writes alike are no such
    pairs: `alike_warning` tells them.
    """
    keys = ["".join(filter(str.isalnum, name.casefold())) for name in names]
    alike = written_alike(names)
    return [
        (names[i], names[j])
        for i, j in itertools.combinations(range(len(names)), 2)
        if j not in alike[i] and _nearly_equal(keys[i], keys[j])
    ]


_LETTERS = 6  # "house" and "mouse" are two classes


def _nearly_equal(a: str, b: str) -> bool:
    if abs(len(a) - len(b)) > 2:
        return False
    short, long = sorted((a, b), key=len)
    if short == long or long in (f"{short}s", f"{short}es"):
        return True
    if len(short) < _LETTERS or not short.isalpha() or not long.isalpha():
        return False
    same = len(os.path.commonprefix([short, long]))
    return long[same + 1 :] in (short[same:], short[same + 1 :])


def bare_name(name: str) -> str | None:
    """The name of a class or an object, by which it is the same in captions and vocabularies.

    Cleaned by `clean_name`, in lower case (`str.casefold`), without leading articles and without
    punctuation at its ends: "The person," is "person". What is nothing but an article or
    punctuation stays: letters and marks are classes, too.

    Returns:
        None for a name that `clean_name` refuses.
    """
    try:
        cleaned = _one_form(clean_name(name))
    except PromptError:
        return None
    before, bare = None, cleaned
    while bare != before:  # what stands behind an article may be in quotes
        before, bare = bare, _ARTICLE.sub("", _without_outer_marks(bare))
    return bare or cleaned


def _without_outer_marks(name: str) -> str:
    """Without punctuation and white space at both ends.

    By category: to regular expressions the vowel signs that end words of Indic scripts are no
    letters either.
    """
    inner = [
        i for i, c in enumerate(name) if not (c.isspace() or unicodedata.category(c)[0] == "P")
    ]
    return name[inner[0] : inner[-1] + 1] if inner else ""


def class_labels(metadata: Metadata) -> list[str]:
    """The class names of a data set, by contiguous id; a name that several classes have is
    followed by the category id of the json, `"bolt (id 7)"`."""
    names = list(metadata.get("thing_classes") or ())
    categories, counts = _category_ids(metadata, len(names)), Counter(names)
    return [
        name if counts[name] == 1 else f"{name} (id {categories[i]})"
        for i, name in enumerate(names)
    ]


def alike_warning(metadata: Metadata) -> str | None:
    """What is to be said of the classes of a data set that are written alike; None: nothing."""
    names = list(metadata.get("thing_classes") or ())
    groups = sorted({ids for ids in written_alike(names) if len(ids) > 1})
    if not groups:
        return None
    categories = _category_ids(metadata, len(names))
    told = [" = ".join(f"{names[i]!r} (id {categories[i]})" for i in ids) for ids in groups]
    return (
        f"classes that are written alike in a prompt, where '_' is a space, (...) is left out and "
        f"case does not count: {_some(told)}. The model cannot tell them apart: they share their "
        "positives in training, and each is scored on its own. Give them different names in "
        "'categories', or make them one category"
    )


def root_class_warning(
    categories: Iterable[Mapping[str, Any]], used: Collection[int]
) -> str | None:
    """What is to be said of categories that an exporter added to those of the user; None: nothing.

    They have no box, and are the supercategory of another one (Roboflow) or are called background
    (labelme).

    Args:
        categories: `categories[]` of a COCO json.
        used: the ids of those that have a box.
    """
    categories = list(categories)
    below_name: dict[str, list[Mapping[str, Any]]] = {}
    for entry in categories:
        if isinstance(above := entry.get("supercategory"), str):
            below_name.setdefault(above, []).append(entry)
    told = []
    for entry in categories:
        others = below_name.get(entry["name"], ())
        below = [other["name"] for other in others if other["id"] != entry["id"]]
        no_thing = "".join(filter(str.isalnum, entry["name"])).casefold() in _NO_THINGS
        if entry["id"] not in used and (below or no_thing):
            reason = f", the supercategory of {_some([repr(name) for name in below])}"
            told.append(f"{entry['name']!r} (id {entry['id']}){reason if below else ''}")
    if not told:
        return None
    return (
        f"classes without a box that look like an exporter's own: {_some(told)}. They are asked "
        "for like all others. To leave them out, remove them from 'categories' in the json of "
        "every split"
    )


def _one_form(text: str) -> str:
    """In lower case and NFC: macOS writes a letter and its accent apart, in names of files."""
    return unicodedata.normalize("NFC", text.casefold())


def _written(name: str) -> str:
    try:
        return clean_name(name)
    except PromptError:  # whoever makes a prompt of it says so
        return name


def _category_ids(metadata: Metadata, count: int) -> Sequence[int] | Mapping[int, int]:
    """The id in the json by contiguous class id; the contiguous id itself where no json has one."""
    ids = metadata.get("thing_dataset_id_to_contiguous_id")
    if ids is None or len(ids) != count:
        return range(count)
    return {contiguous: category for category, contiguous in ids.items()}


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _MOST_NAMED
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
