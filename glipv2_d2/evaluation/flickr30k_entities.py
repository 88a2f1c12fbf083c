"""Reads Flickr30k Entities: boxes from its xml files, phrases from its sentences.

Read by the rules of the authors' `flickr30k_entities_utils.py`, which MDETR's and GLIP's
evaluators use too: the numbers of `bndbox` are taken as they are (no correction for pixels that
count from 1), an `object` without `bndbox` (`nobndbox` or `scene`) gives its entities no
box, and one `object` may belong to several entities.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

from detectron2.utils.file_io import PathManager

from ..errors import DataError

Box = tuple[float, float, float, float]


class EntityPhrase(NamedTuple):
    """A bracketed phrase of a sentence: its words, entity id and coarse categories."""

    text: str
    entity: str
    categories: tuple[str, ...]


def read_entity_boxes(folder: str, image: str) -> dict[str, list[Box]]:
    """Read the boxes (xmin, ymin, xmax, ymax) of each entity that has any, in their order.

    Args:
        folder: of Flickr30k Entities, with `Annotations` and `Sentences`.
        image: id, for instance `"36979"`.

    Raises:
        DataError: the file is missing, is no xml, or a box is incomplete.
    """
    path = os.path.join(folder, "Annotations", f"{image}.xml")
    try:
        root = ElementTree.fromstring(_read(path))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: no valid xml: {error}") from None
    boxes: dict[str, list[Box]] = {}
    for thing in root.iter("object"):
        frame = thing.find("bndbox")
        if frame is None:
            continue
        corners = [frame.findtext(side, "") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = map(float, corners)
        except ValueError:
            raise DataError(f"{path}: a bndbox has the corners {corners}") from None
        for name in thing.findall("name"):
            boxes.setdefault(name.text or "", []).append((x0, y0, x1, y1))
    return boxes


def read_sentences(folder: str, image: str) -> list[list[EntityPhrase]]:
    """Read the phrases of each caption of an image, in order; empty lines do not count.

    A phrase looks like `[/EN#283585/people/clothing Two young guys]`: the entity id follows
    `EN#`, then one or more categories, then the words.

    Raises:
        DataError: the file is missing, or a phrase has no entity or no end.
    """
    path = os.path.join(folder, "Sentences", f"{image}.txt")
    lines = (line.strip() for line in _read(path).split("\n"))
    return [_sentence(line, path) for line in lines if line]


def _sentence(line: str, path: str) -> list[EntityPhrase]:
    phrases: list[EntityPhrase] = []
    words: list[str] | None = None  # of the phrase that is open
    tag: list[str] = []
    for token in line.split():
        if words is None and token.startswith("["):
            words, tag = [], token.split("/")
            if len(tag) < 2 or not tag[1].startswith("EN#"):
                raise DataError(f"{path}: {token!r} does not begin a phrase ('[/EN#id/category')")
        elif words is not None:
            words.append(token.removesuffix("]"))
            if token.endswith("]"):
                entity = tag[1].removeprefix("EN#")
                phrases.append(EntityPhrase(" ".join(words), entity, tuple(tag[2:])))
                words = None
    if words is not None:
        raise DataError(f"{path}: the phrase {' '.join(words)!r} has no closing ']'")
    return phrases


def _read(path: str) -> str:
    try:
        with PathManager.open(path, "r", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path!r}: entities_dir must be the folder of Flickr30k Entities "
            "with Annotations/*.xml and Sentences/*.txt"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}") from None
