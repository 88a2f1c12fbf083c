"""Pascal VOC: an xml file an image."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from .image_files import place_images
from .labels import DetectedImage, Labels, xml_text


def write_voc(labels: Labels, folder: Path) -> None:
    """Write `Annotations/`, and `JPEGImages/` with links to the images.

    Corners are whole pixels that are counted from 1 and belong to the box, as in the challenges:
    boxes are rounded. There are no scores and no masks.
    """
    images = place_images(labels, folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for image, stem, name in zip(labels.images, labels.stems, images):
        tree = ElementTree(_annotation(image, name))
        indent(tree)
        tree.write(folder / "Annotations" / f"{stem}.xml", "utf-8", xml_declaration=True)


def _annotation(image: DetectedImage, name: str) -> Element:
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", xml_text(name))
    _add(root, "path", xml_text(image.file))
    _add(SubElement(root, "source"), "database", "detections of GLIP")
    size = SubElement(root, "size")
    for side, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, side, value)
    _add(root, "segmented", 0)
    for found in image.detections:
        entry = SubElement(root, "object")
        _add(entry, "name", found.phrase)
        for field in ("truncated", "difficult"):
            _add(entry, field, 0)
        corners = SubElement(entry, "bndbox")
        (x0, x1), (y0, y1) = (
            _whole(found.box[0], found.box[2], image.width),
            _whole(found.box[1], found.box[3], image.height),
        )
        for corner, value in (("xmin", x0), ("ymin", y0), ("xmax", x1), ("ymax", y1)):
            _add(corners, corner, value)
    return root


def _whole(start: float, end: float, length: int) -> tuple[int, int]:
    """The first and the last pixel, counted from 1; one at least."""
    first = min(round(start), length - 1) + 1
    return first, max(first, min(round(end), length))


def _add(parent: Element, tag: str, value: object) -> None:
    SubElement(parent, tag).text = str(value)
