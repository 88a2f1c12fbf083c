"""Captions without boxes: COCO's caption json, and Karpathy's splits of COCO and Flickr30k."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ...errors import DataError
from ..checks import not_utf8
from ..entries import id_problem, json_objects, plain_id, short, sound_entries
from ..report import Record, Report, reported
from .coco_like import read_json


class _Caption(NamedTuple):
    """A caption of a json: its id, its text, which may be anything, and where it is."""

    id: Any
    text: Any
    place: str


def load_coco_captions(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    to_write: bool = False,
) -> list[Record]:
    """Records of COCO's caption json: captions to learn, or images whose caption is to be written.

    Args:
        json_file: `images[]` with `id, file_name`, perhaps `height, width`; `annotations[]` with
            `id, image_id, caption`. A test set whose captions its server keeps has none.
        image_root: the folder of the images.
        dataset_name: goes into the records.
        report: takes what is left out; one of its own by default, which is logged.
        to_write: for a test: one record per image with `references`, its captions; else one per
            caption, for training, whose `image_id` is that of the caption.

    Raises:
        DataError: the file is missing or no such json, or has no captions to learn.
    """
    fields = {"images", "annotations"}
    content = read_json(json_file, fields, "COCO's caption format", optional={"annotations"})
    annotations = content.pop("annotations", None)
    if annotations is None and not to_write:
        raise DataError(
            f"{json_file} has no 'annotations', so there are no captions to learn: it is a test "
            "set whose captions are kept by its server. Train on another split"
        )
    with reported(json_file, report) as report:
        images, _ = sound_entries(
            content,
            json_file,
            report,
            required=("id", "file_name"),
            image_problem=lambda image: None,
            annotation_problem=lambda entry: None,
        )
        captions: dict[Any, list[_Caption]] = {key: [] for key in images}
        place = f"{json_file}: annotations"
        for index, entry in json_objects(annotations or (), place, report.record):
            where, image_id = f"{place}[{index}] (id {entry.get('id')})", entry.get("image_id")
            if id_problem(image_id) or image_id not in captions:
                what = f"the field 'image_id' is that of no image: {short(image_id)}"
                report.record("unknown image", where, what, fault=False)
            else:
                captions[image_id].append(_Caption(entry.get("id"), entry.get("caption"), where))
        records = []
        for key, image in images.items():
            record: Record = {name: image[name] for name in ("height", "width") if name in image}
            record["file_name"] = os.path.join(image_root, image["file_name"])
            record.update(image_id=key, task="caption")
            if annotations is None:
                records.append({**record, "references": []})
            else:
                place = f"{json_file}: image {key!r}"
                records += _captioned(record, captions[key], place, to_write, report)
    return _finished(records, dataset_name, json_file)


def load_karpathy_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    splits: Collection[str],
    to_write: bool = False,
) -> list[Record]:
    """Records of Karpathy's `dataset_coco.json` or `dataset_flickr30k.json`.

    The file has no sizes of images, and so have the records; they are read with the images.

    Args:
        json_file: `images[]` with `filename`, `split`, `sentences[]` (`raw`, `sentid`), and of COCO
            `filepath` (the folder) and `cocoid`.
        image_root: the folder of the images, or of COCO's folders train2014 and val2014.
        dataset_name, report, to_write: see `load_coco_captions`. The id of an image is its
            `cocoid`, or else the number that it is called by.
        splits: those that are read: "train", "restval" (of COCO, trained on by custom), "val",
            "test".

    Raises:
        DataError: the file is missing or no such json, or has no image in these splits.
    """
    content = read_json(json_file, {"images"}, "Karpathy's format")
    records: list[Record] = []
    with reported(json_file, report) as report:
        place = f"{json_file}: images"
        for index, image in json_objects(content["images"], place, report.record):
            if image.get("split") not in splits:
                continue
            where, folder = f"{place}[{index}]", image.get("filepath") or ""
            name, sentences = image.get("filename"), image.get("sentences")
            if not (isinstance(name, str) and isinstance(sentences, list)):
                what = "the fields 'filename' (a text) or 'sentences' (a list) are missing"
                report.record("missing field", where, what)
                continue
            if not isinstance(folder, str):
                report.record("bad file name", where, f"the field 'filepath' is {short(folder)}")
                continue
            image_id = plain_id(image.get("cocoid", PurePosixPath(name).stem))
            if problem := id_problem(image_id):
                report.record("bad id", where, f"the field 'cocoid': {problem}")
                continue
            path = os.path.join(image_root, folder, name)
            record = {"file_name": path, "image_id": image_id, "task": "caption"}
            captions = list(_sentences(sentences, where, report))
            records += _captioned(record, captions, where, to_write, report)
    if not records:
        raise DataError(f"{json_file} has no image with a caption in the splits {sorted(splits)}")
    return _finished(records, dataset_name, json_file)


def _sentences(entries: list[Any], where: str, report: Report) -> Iterator[_Caption]:
    for index, entry in json_objects(entries, f"{where}, sentences", report.record):
        yield _Caption(entry.get("sentid"), entry.get("raw"), f"{where}, sentences[{index}]")


def _captioned(
    image: Record, captions: list[_Caption], place: str, to_write: bool, report: Report
) -> list[Record]:
    """One record with the captions as references, or one per caption."""
    sound = []
    for caption in captions:
        if problem := _problem(caption.text):
            report.record(problem, caption.place, f"the caption is {short(caption.text)}")
        else:
            sound.append(caption)
    if not captions:
        # As images without boxes, which are sound; but such a one cannot be scored.
        report.record("image without captions", place, "it has no captions", fault=to_write)
    if not sound:
        return []
    if to_write:
        return [{**image, "references": [caption.text for caption in sound]}]
    original = {"original_img_id": image["image_id"]}
    return [{**image, **original, "image_id": c.id, "caption": c.text} for c in sound]


def _problem(text: Any) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return "empty caption"
    return "caption not UTF-8" if not_utf8(text) else None


def _finished(records: list[Record], dataset_name: str | None, json_file: str) -> list[Record]:
    if dataset_name is not None:
        for record in records:
            record["dataset_name"] = dataset_name
    text = "loaded %d records of captions from %s"
    logging.getLogger(__name__).info(text, len(records), json_file)
    return records
