"""What was found in images, as the writers of label files take it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from detectron2.structures import Instances
from pycocotools import mask as mask_util

from ..errors import UsageError, printable
from ..images import read_image
from ..sources import is_address

__all__ = [
    "DetectedImage",
    "Detection",
    "Labels",
    "detection_records",
    "unique_names",
    "xml_text",
]

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Detection(NamedTuple):
    """A box that was found.

    Attributes:
        phrase: its class.
        score: between 0 and 1.
        box: x0, y0, x1, y1 in pixels.
        mask: COCO's run-length code, `{"size": [height, width], "counts": text}`; None: no masks.
    """

    phrase: str
    score: float
    box: list[float]
    mask: dict[str, Any] | None = None


class DetectedImage(NamedTuple):
    """An image and what was found in it.

    Attributes:
        file: its path or address.
        height, width: in pixels, upright.
        detections: may be none.
    """

    file: str
    height: int
    width: int
    detections: Sequence[Detection]


@dataclass(frozen=True)
class Labels:
    """What was found in images; a class is a phrase, whatever number it had in a prompt.

    Args:
        images: each file once.
        names: of the classes, in the order of their numbers from 0; phrases that are not among
            them come behind.
        read: gives the pixels of a file as `read_image` does, for formats that have the images
            beside the labels; None: no image is read or looked for, and those have labels alone.

    Raises:
        UsageError: a name with a control character, which no label file can hold.
    """

    images: Sequence[DetectedImage]
    names: Sequence[str] = ()
    read: Callable[[str], np.ndarray] | None = read_image

    def __post_init__(self) -> None:
        found = (d.phrase for image in self.images for d in image.detections)
        names = tuple(dict.fromkeys((*self.names, *found)))
        for name in names:
            if _NO_XML.search(name):
                what = f"the name {name!r} has a character that label files cannot hold"
                raise UsageError(f"{what}: leave it out of the prompt")
        object.__setattr__(self, "names", names)

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Labels:
        """Of `detections.json`, or the report of `glip ask` or `glip caption`."""
        found: dict[str, list[Detection]] = {image["file"]: [] for image in report["images"]}
        for record in report["detections"]:
            fields = record["phrase"], record["score"], record["box"], record.get("mask")
            found[record["file"]].append(Detection(*fields))
        images = {
            _absolute(i["file"]): DetectedImage(
                i["file"], i["height"], i["width"], found[i["file"]]
            )
            for i in reversed(report["images"])  # of a file with two names the first
        }
        return cls(tuple(reversed(images.values())), report.get("names", ()))

    @classmethod
    def from_instances(
        cls,
        found: Iterable[tuple[str, Instances]],
        names: Sequence[str] = (),
        read: Callable[[str], np.ndarray] | None = read_image,
    ) -> Labels:
        """Of what the predictor returns for files.

        Labels.from_instances(zip(files, predictor(files, names)), names)
        """
        images = []
        for file, instances in found:
            detections = [
                Detection(record["phrase"], record["score"], record["box"], record.get("mask"))
                for record in detection_records(file, instances)
            ]
            height, width = instances.image_size
            images.append(DetectedImage(file, height, width, detections))
        return cls(images, names, read)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Class name -> its number, from 0."""
        return {name: number for number, name in enumerate(self.names)}

    @cached_property
    def root(self) -> str:
        """The innermost folder above all images that are files."""
        folders = {os.path.dirname(os.path.abspath(i.file)) for i in self._of_files}
        return os.path.commonpath(folders) if folders else os.getcwd()

    @property
    def _of_files(self) -> list[DetectedImage]:
        return [image for image in self.images if not is_address(image.file)]

    @cached_property
    def paths(self) -> list[str]:
        """Of each image its path below `root`, with "/"; of an address the name at its end."""
        paths = [
            _name_of_address(image.file)
            if is_address(image.file)
            else os.path.relpath(os.path.abspath(image.file), self.root).replace(os.sep, "/")
            for image in self.images
        ]
        return unique_names(paths)

    @cached_property
    def stems(self) -> list[str]:
        """Of each image a name for a file of its own in one folder, without a suffix.

        That of the image, and where others are called so its folders and suffix too.
        """
        stems = [PurePosixPath(path).stem for path in self.paths]
        count = Counter(stem.casefold() for stem in stems)
        return unique_names(
            [
                printable(stem if count[stem.casefold()] == 1 else re.sub(r"[/.]", "_", path))
                for stem, path in zip(stems, self.paths)
            ]
        )


def detection_records(file: str, instances: Instances) -> list[dict[str, Any]]:
    """The detections of an image as the reports of `glip detect` have them."""
    masks = instances.pred_masks.numpy() if instances.has("pred_masks") else None
    records = []
    for i, box in enumerate(instances.pred_boxes.tensor.tolist()):
        record = {
            "file": file,
            "phrase": instances.pred_phrases[i],
            "class_id": int(instances.pred_classes[i]),
            "score": round(float(instances.scores[i]), 4),
            "box": [round(value, 2) for value in box],
        }
        if masks is not None:
            code = mask_util.encode(np.asfortranarray(masks[i].astype(np.uint8)))
            record["mask"] = {"size": list(code["size"]), "counts": code["counts"].decode()}
        records.append(record)
    return records


def xml_text(text: str) -> str:
    """The name of a file without characters that XML has none for."""
    return _NO_XML.sub("\ufffd", printable(text))


def _absolute(file: str) -> str:
    return file if is_address(file) else os.path.abspath(file)


def _name_of_address(file: str) -> str:
    return PurePosixPath(unquote(urlsplit(file).path)).name or "image"


def unique_names(names: Iterable[str]) -> list[str]:
    """The names, with a number where one is taken, on file systems that ignore case too."""
    taken: set[str] = set()
    result = []
    for name in names:
        stem, suffix = os.path.splitext(name)
        chosen, number = name, 1
        while chosen.casefold() in taken:
            number += 1
            chosen = f"{stem}_{number}{suffix}"
        taken.add(chosen.casefold())
        result.append(chosen)
    return result
