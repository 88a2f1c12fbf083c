"""COCO json written image by image, for converters of data sets with millions of boxes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from detectron2.structures import BoxMode
from pycocotools import mask as mask_util

from ...files import whole_file


@contextmanager
def coco_writer(path: str | os.PathLike, class_names: Sequence[str]) -> Iterator[CocoWriter]:
    """Annotations go to the file as they come; the file appears whole or not at all.

    ::

        with coco_writer("train.json", ["cat", "dog"]) as writer:
            writer.add("a.jpg", 480, 640, [(1, [10, 10, 50, 50])])

    Args:
        path: the json.
        class_names: categories 1, 2, ...
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "w") as file:
        file.write('{"annotations": [')
        writer = CocoWriter(file)
        yield writer
        categories = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]
        rest = json.dumps({"images": writer.images, "categories": categories})
        file.write("\n], " + rest[1:])


class CocoWriter:
    """Takes the images of a file that is written; see `coco_writer`."""

    def __init__(self, file: IO[str]):
        self.file = file
        self.boxes = 0
        self.images: list[dict[str, Any]] = []

    def add(
        self,
        file_name: str,
        height: int,
        width: int,
        boxes: Iterable[tuple[int, Sequence[float]] | tuple[int, Sequence[float], bool]],
        image_id: int | None = None,
        **fields: Any,
    ) -> None:
        """One image.

        Args:
            file_name: below the image folder.
            height, width: in pixels.
            boxes: (category id from 1, xywh in pixels[, crowd]).
            image_id: a number; counted on from 1 by default.
            fields: more of the image entry, for instance `neg_category_ids`.
        """
        key = len(self.images) + 1 if image_id is None else image_id
        image = {"id": key, "file_name": file_name, "height": height, "width": width, **fields}
        self.images.append(image)
        for category, box, *crowd in boxes:
            self._annotation(key, category, box, bool(crowd and crowd[0]))

    def add_record(self, record: Mapping[str, Any]) -> None:
        """An image with the boxes, masks and scores of its detection record, by contiguous class
        ids."""
        self.add(record["file_name"], record["height"], record["width"], ())
        key = self.images[-1]["id"]
        for annotation in record["annotations"]:
            box = BoxMode.convert(
                list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYWH_ABS
            )
            mask = annotation.get("segmentation")
            if isinstance(mask, Mapping) and isinstance(mask["counts"], bytes):
                mask = {**mask, "counts": mask["counts"].decode("ascii")}
            more: dict[str, Any] = {"segmentation": mask} if mask else {}
            if isinstance(mask, Mapping) and isinstance(mask["counts"], str):
                more["area"] = int(mask_util.area(mask))
            if "score" in annotation:
                more["score"] = annotation["score"]
            crowd = bool(annotation.get("iscrowd", 0))
            self._annotation(key, annotation["category_id"] + 1, box, crowd, **more)

    def _annotation(
        self, image: int, category: int, box: Sequence[float], crowd: bool, **fields: Any
    ) -> None:
        self.boxes += 1
        entry = {
            "id": self.boxes,
            "image_id": image,
            "category_id": category,
            "bbox": [round(float(v), 2) for v in box],
            "iscrowd": int(crowd),
            **fields,
        }
        if "segmentation" not in fields:  # of a polygon readers compute it
            entry["area"] = round(float(box[2] * box[3]), 2)
        self.file.write((",\n" if self.boxes > 1 else "\n") + json.dumps(entry))
