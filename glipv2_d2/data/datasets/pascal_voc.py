"""Pascal VOC: an xml file an image, as of the challenges, labelImg, Roboflow, CVAT and others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ...errors import DataError
from ..report import Record, RecordError, Report
from .labeled_images import (
    ImageFolder,
    LabeledImages,
    image_size,
    labeled_box,
    read_annotations,
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(
    path: str, image_root: str, report: Report, *, split: str | None = None
) -> LabeledImages:
    """Images and the xml files of their objects.

    The challenges count pixels from 1, both corners inside the box, so that 1 is subtracted from
    `xmin` and `ymin`, as in Detectron2. Where a file of the data set has a corner at 0, or
    between two pixels, the tool counted from 0, and nothing is subtracted. `difficult`
    objects are neither trained on nor counted, as in the challenges.

    Args:
        path: the folder; the xml files are in it or in `Annotations`.
        image_root: the folder of the images.
        report: takes what is left out.
        split: of `ImageSets/Main/<split>.txt`; None: all.

    Raises:
        DataError: there are no xml files, or not this split.
    """
    folder = os.path.join(path, "Annotations")
    folder = folder if os.path.isdir(folder) else path
    files = [os.path.relpath(file, folder) for file in sorted(Path(folder).rglob("*.xml"))]
    if split is not None:
        listed = _listed(path, split)
        files = [file for file in files if file.removesuffix(".xml").replace(os.sep, "/") in listed]
    if not files:
        raise DataError(f"{folder}: there are no xml files" + (f" of {split!r}" if split else ""))
    parsed = list(_parsed(folder, files, report))
    first = 0 if any(map(_counts_from_0, (root for _, root in parsed))) else 1
    return LabeledImages(_records(parsed, folder, ImageFolder(image_root), first, report))


def _parsed(folder: str, files: Sequence[str], report: Report) -> Iterator[tuple[str, Element]]:
    for file in files:
        where = os.path.join(folder, file)
        try:
            root = parse_xml(where)
            if root.tag != "annotation":
                what = f"it begins with <{root.tag}>, Pascal VOC's with <annotation>"
                raise RecordError("other xml", where, what)
            yield file, root
        except RecordError as error:
            report.unusable(error)


def _records(
    parsed: Sequence[tuple[str, Element]],
    folder: str,
    images: ImageFolder,
    first: int,
    report: Report,
) -> Iterator[Record]:
    for file, root in parsed:
        where = os.path.join(folder, file)
        try:
            # The name that the xml tells may be one from before the files were renamed.
            names = [file.removesuffix(".xml"), text_of(root, "filename")]
            image = images.find([name for name in names if name], where)
            height, width = _told_size(root) or image_size(image, where)
        except RecordError as error:
            report.unusable(error)
            continue
        objects = [
            (f"{where}: object {index}", entry) for index, entry in enumerate(root.iter("object"))
        ]
        annotations = read_annotations(objects, _annotation, report, first)
        yield {"file_name": image, "height": height, "width": width, "annotations": annotations}


def _annotation(entry: Element, first: int) -> Record:
    x0, y0, x1, y1 = (float(text_of(entry, f"bndbox/{corner}")) for corner in _CORNERS)
    label = text_of(entry, "name")
    if not label:
        raise KeyError("name")
    crowd = text_of(entry, "difficult") == "1"
    return labeled_box(label, (x0 - first, y0 - first, x1, y1), _polygon(entry), crowd)


def _polygon(entry: Element) -> list[list[float]] | None:
    """That of Roboflow: `x1`, `y1`, `x2`, `y2`, ..."""
    points = entry.find("polygon")
    if points is None:
        return None
    return [
        [
            float(text_of(points, f"{axis}{n}"))
            for n in range(1, len(points) // 2 + 1)
            for axis in "xy"
        ]
    ]


def _counts_from_0(root: Element) -> bool:
    for box in root.iter("bndbox"):
        for corner in _CORNERS:
            with suppress(ValueError):  # told when the annotation is read
                value = float(text_of(box, corner))
                if value < 1 or value % 1:
                    return True
    return False


def _told_size(root: Element) -> tuple[int, int] | None:
    """(height, width); None where the file says nothing, or 0 as labelImg does at times."""
    height, width = (text_of(root, f"size/{side}") for side in ("height", "width"))
    if height.isdecimal() and width.isdecimal() and int(height) and int(width):
        return int(height), int(width)
    return None


def _listed(path: str, split: str) -> set[str]:
    folder = Path(path, "ImageSets", "Main")
    file = folder / f"{split}.txt"
    if not file.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "no lists"
        raise DataError(f"there is no {file}; {folder} has {known}")
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    return {line.split()[0] for line in lines if line.strip()}


def text_of(element: Element, path: str) -> str:
    """The text of an inner element; empty if there is none."""
    return (element.findtext(path) or "").strip()


def parse_xml(path: str) -> Element:
    """The root of an xml file. One that declares entities is refused: they may grow without end.

    Raises:
        RecordError: the file cannot be read, or is no xml.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise RecordError("xml with entities", path, "it declares entities (<!ENTITY ...>)")

    parser.EntityDeclHandler = refuse
    try:
        with open(path, "rb") as file:
            parser.ParseFile(file)
    except RecordError:
        raise
    except (OSError, ValueError, LookupError, expat.ExpatError) as error:
        raise RecordError("no valid xml", path, f"no xml that can be read: {error}") from None
    return builder.close()
