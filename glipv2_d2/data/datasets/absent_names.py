"""Phrases that may be absent: names asked of images that hold some of them, and SA-Co's json."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from typing import Any

from detectron2.structures import BoxMode

from ...language.prompt import Prompt, clean_name
from ...language.spans import whole_caption
from ..checks import not_utf8
from ..entries import Problem, short, sound_entries
from ..report import Record, Report, reported
from .coco_like import load_coco_style_json, read_categories, read_json

__all__ = ["load_absent_names", "load_saco_json"]


def load_absent_names(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    most_present: int = 8,
    seed: int = 0,
) -> list[Record]:
    """Of each image of a COCO json a prompt of names, half of which are not in the image.

    Half of the absent names are near misses, which share a word with a name that is present ("red
    star" where a blue star is), as far as there are such. What the file does not tell is not asked:
    names with crowd boxes; in a federated file (LVIS) names that are neither in the image nor
    verified to be absent, or whose boxes are not all there.

    Args:
        json_file, image_root, report: see `load_coco_style_json`.
        dataset_name: goes into the records.
        most_present: names of an image that are asked at most; of more a part is drawn.
        seed: of what is drawn, which depends on the image and on no other.

    Returns:
        Caption records: `caption` holds the names, `phrases` their spans; the annotations of the
        names asked have `spans`.

    Raises:
        DataError: see `load_coco_style_json`.
    """
    content = read_json(json_file, {"categories"}, "COCO's format")
    ids, classes = read_categories(content["categories"], json_file)
    names = [clean_name(name) for name in classes]
    records = []
    for record in load_coco_style_json(json_file, image_root, report=report):
        annotations = record.pop("annotations", [])
        unclear = {names[a["category_id"]] for a in annotations if a.get("iscrowd", 0)}
        unclear |= _names_of(record.pop("not_exhaustive_category_ids", ()), ids, names)
        present = {names[a["category_id"]] for a in annotations} - unclear
        verified = record.pop("neg_category_ids", None)
        absent = set(names if verified is None else _names_of(verified, ids, names))
        absent -= {names[a["category_id"]] for a in annotations} | unclear
        draw = random.Random(f"{seed} {record['image_id']}")
        asked = _drawn(sorted(present), sorted(absent), most_present, draw)
        if not asked:
            continue
        prompt = Prompt.from_classes(asked)
        spans = {name: [list(s) for s in phrase] for name, phrase in zip(asked, prompt.spans)}
        record.update(caption=prompt.caption, phrases=list(spans.values()))
        record["annotations"] = [
            {**{k: v for k, v in a.items() if k != "category_id"}, "spans": spans[name]}
            for a in annotations
            if (name := names[a["category_id"]]) in spans
        ]
        if dataset_name is not None:
            record["dataset_name"] = dataset_name
        records.append(record)
    return records


def _names_of(categories: Sequence[int], ids: Sequence[int], names: Sequence[str]) -> set[str]:
    return {names[ids.index(category)] for category in categories if category in ids}


def _drawn(
    present: list[str], absent: list[str], most_present: int, draw: random.Random
) -> list[str]:
    """Names that are present and as many that are absent, at least one, in any order."""
    present = draw.sample(present, min(len(present), most_present))
    words = {word for name in present for word in name.casefold().split()}
    near = [name for name in absent if words.intersection(name.casefold().split())]
    count = min(max(len(present), 1), len(absent))
    chosen = draw.sample(near, min((count + 1) // 2, len(near)))
    rest = [name for name in absent if name not in chosen]
    asked = present + chosen + draw.sample(rest, count - len(chosen))
    draw.shuffle(asked)
    return asked


def load_saco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
) -> list[Record]:
    """Image-phrase pairs of SA-Co (Carion et al. 2025, "SAM 3"), a record for each.

    Args:
        json_file: `images[]`, one for each pair, with `id, file_name, height, width, text_input`,
            perhaps `is_instance_exhaustive`; `annotations[]` with `image_id, bbox` (xywh as parts
            of the image), perhaps `segmentation` (RLE), `iscrowd`. Pairs that are not annotated
            exhaustively are left out, as its authors do, and the log says how many.
        image_root: the folder of the images.
        dataset_name: goes into the records.
        report: takes what is left out; one of its own by default, which is logged.

    Returns:
        Caption records whose `caption` is the phrase.

    Raises:
        DataError: the file is missing or is no such json.
    """
    content = read_json(json_file, {"images", "annotations"}, "SA-Co's format")
    with reported(json_file, report) as report:
        images, by_image = sound_entries(
            content,
            json_file,
            report,
            required=("id", "file_name", "height", "width", "text_input"),
            image_problem=_phrase_problem,
            annotation_problem=_box_problem,
        )
    whole = {i: x for i, x in images.items() if x.get("is_instance_exhaustive", True)}
    text = "%s: %d of %d pairs of image and phrase, the others are not annotated exhaustively"
    logging.getLogger(__name__).info(text, json_file, len(whole), len(images))
    records = []
    for key, image in whole.items():
        height, width, caption = image["height"], image["width"], image["text_input"]
        phrases = whole_caption(caption)
        record: Record = {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": height,
            "width": width,
            "image_id": key,
            "caption": caption,
            "phrases": phrases,
            "annotations": [
                {**_in_pixels(entry, height, width), "spans": phrases[0]} for entry in by_image[key]
            ],
        }
        if dataset_name is not None:
            record["dataset_name"] = dataset_name
        records.append(record)
    return records


def _phrase_problem(image: Record) -> Problem | None:
    phrase = image["text_input"]
    if not isinstance(phrase, str) or not phrase.strip() or not_utf8(phrase):
        return "no phrase", f"the field 'text_input' is {short(phrase)}"
    return None


def _box_problem(entry: Record) -> Problem | None:
    box: Any = entry.get("bbox")
    numbers = isinstance(box, list) and len(box) == 4
    if not numbers or not all(isinstance(x, (int, float)) and 0 <= x <= 1 for x in box):
        return "bad box", f"'bbox' is no x, y, w, h as parts of the image: {short(box)}"
    return None


def _in_pixels(entry: Record, height: int, width: int) -> Record:
    x, y, w, h = entry["bbox"]
    annotation = {k: entry[k] for k in ("id", "iscrowd", "segmentation") if entry.get(k)}
    box = [x * width, y * height, w * width, h * height]
    return {**annotation, "bbox": box, "bbox_mode": BoxMode.XYWH_ABS}
