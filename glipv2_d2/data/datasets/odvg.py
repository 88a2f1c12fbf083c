"""ODVG jsonl (MM-Grounding-DINO, Open-GroundingDino): a detection or a grounding record a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ...errors import DataError
from ...language.spans import find_phrase
from ..checks import not_utf8
from ..containers import read_bytes, row_offsets
from ..entries import field_of, file_name_problem, id_problem, json_objects
from ..reader import RecordIndex
from ..report import Record, RecordError, Report, reported
from .caption_labels import boxes_above
from .coco_like import load_json, set_vocabulary


def load_odvg(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    label_map: str | Mapping[str, str] | None = None,
    lazy: bool = False,
    min_score: float = 0.5,
) -> list[Record] | RecordIndex:
    """Records of an ODVG jsonl.

    A line with `detection` gives a detection record, one with `grounding` a caption; a file
    may hold both, as Open-GroundingDino's mixed files do: the mapper looks at each record.

    Args:
        json_file: each line has `filename, height, width` and either `detection.instances[]`
            (`bbox` xyxy, `label` from 0, `category`) or `grounding` (`caption`,
            `regions[]` with `bbox`, one box or a list, `phrase`, text or a list of texts,
            and perhaps `tokens_positive`; without it the phrase is looked up in the caption).
        image_root: the folder of the images.
        dataset_name: its metadata gets `thing_classes` if there are detection lines.
        report: takes what is left out; one of its own by default, which is logged.
        label_map: `{"0": "person", ...}` or the json file that holds it (beside `json_file` if its
            path is relative); without it the names are those that the lines give to their labels.
        lazy: keep offsets only and read a line when it is asked for (files of many millions of
            lines); detection lines need `label_map` then.
        min_score: pseudo boxes must score more (GLIP: 0.5): those of regions with a `score`, a
            number or one for each box. A caption that has had some and has none left is left out.

    Raises:
        DataError: the file or the label map is missing or unreadable.
    """
    names = _read_label_map(label_map, json_file)
    lines = None
    with reported(json_file, report) as report:
        if not lazy:
            lines = list(_parsed(json_file, report))
            names = _names_of_lines([line for _, line in lines]) if names is None else names
        index = OdvgRecords(json_file, image_root, names, lines, min_score)
        if names and dataset_name is not None:
            ids = {label: class_id for label, (class_id, _) in index.classes.items()}
            set_vocabulary(dataset_name, [n for _, n in index.classes.values()], ids, json_file)
        return index if lazy else list(index.usable(report))


class OdvgRecords(RecordIndex):
    """Lines that become records when they are asked for.

    Args:
        json_file, image_root: see `load_odvg`.
        names: label -> class name; None: not known.
        lines: (number from 1, parsed line); None: they are read when they are asked for.
        min_score: see `load_odvg`.

    Attributes:
        classes: label -> (contiguous class id, name), in the order of the labels.
    """

    def __init__(
        self,
        json_file: str,
        image_root: str,
        names: Mapping[int, str] | None,
        lines: Sequence[tuple[int, Record]] | None,
        min_score: float = 0.5,
    ):
        self.source = json_file
        self.min_score = min_score
        self.image_root = image_root
        self.classes = {k: (i, name) for i, (k, name) in enumerate(sorted((names or {}).items()))}
        for label, (_, name) in self.classes.items():
            if not_utf8(name) or not name.strip():
                raise DataError(f"{json_file}: label {label} has no name but {name!r}")
        self.lines = lines
        if lines is None:
            self.starts = np.append(row_offsets(json_file), os.path.getsize(json_file))

    def __len__(self) -> int:
        return len(self.starts) - 1 if self.lines is None else len(self.lines)

    def _line(self, index: int) -> tuple[int, Record]:
        if self.lines is not None:
            return self.lines[index]
        start, end = map(int, self.starts[index : index + 2])
        where = f"{self.source}: line {index + 1}"
        try:
            text = read_bytes(self.source, start, end - start)
        except (DataError, ValueError) as error:
            raise RecordError("bad offset", where, str(error)) from None
        return index + 1, _parse(text.decode("utf-8", "surrogateescape"), where)

    def read(self, index: int, report: Report) -> Record:
        number, line = self._line(index)
        where = f"{self.source}: line {number} ({line.get('filename')})"
        for field in ("filename", "height", "width"):
            if not line.get(field):
                what = f"the field {field!r} is missing or empty"
                raise RecordError("missing field", where, what)
        if problem := file_name_problem(line["filename"]):
            raise RecordError("bad file name", where, f"the field 'filename': {problem}")
        kinds = [kind for kind in ("detection", "grounding") if isinstance(line.get(kind), dict)]
        if len(kinds) != 1:
            what = f"a line has either 'detection' or 'grounding', this one has {kinds or 'none'}"
            raise RecordError("neither or both kinds", where, what)
        read = self._detection if kinds == ["detection"] else self._grounding
        return {
            "file_name": os.path.join(self.image_root, line["filename"]),
            "height": line["height"],
            "width": line["width"],
            "image_id": number,
            **read(line[kinds[0]], where, report),
        }

    def _detection(self, detection: Record, where: str, report: Report) -> Record:
        if not self.classes:
            what = "detection lines need a label_map with the class names"
            raise RecordError("no label map", where, what)
        result = []
        entries = field_of(detection, "instances", list, where)
        place = f"{where}: detection.instances"
        for index, instance in json_objects(entries, place, report.annotation):
            spot = f"{place}[{index}]"
            label: Any = instance.get("label")
            known = None if id_problem(label) else self.classes.get(label)
            if known is None:
                what = f"the field 'label' is {label!r}: not known"
                report.annotation("unknown class", spot, what)
            elif instance.get("category", known[1]) != known[1]:
                what = f"label {label} is {known[1]!r} in the label map, but 'category' says "
                report.annotation("name and id differ", spot, what + repr(instance["category"]))
            else:
                result.append(_box(instance.get("bbox"), category_id=known[0]))
        return {"annotations": result}

    def _grounding(self, grounding: Record, where: str, report: Report) -> Record:
        caption: Any = grounding.get("caption")
        if not isinstance(caption, str) or not caption.strip():
            raise RecordError("empty caption", where, "grounding.caption is missing or empty")
        if not_utf8(caption):
            raise RecordError("caption not UTF-8", where, "grounding.caption is not UTF-8")
        result: list[Record] = []
        screened = False
        regions = field_of(grounding, "regions", list, where)
        place = f"{where}: grounding.regions"
        for index, region in json_objects(regions, place, report.annotation):
            spot = f"{place}[{index}]"
            try:
                spans = _spans(region, caption, spot)
                boxes, scores = _boxes(region, spot), region.get("score", math.inf)
                kept = boxes_above(boxes, scores, self.min_score, spot)
            except RecordError as error:
                report.annotation(error.kind, error.where, error.what)
                continue
            screened |= len(kept) < len(boxes)
            for box, score in kept:
                known = {"score": score} if "score" in region else {}
                result.append(_box(box, spans=spans, **known))
        if screened and not result:
            what = f"no box scores more than {self.min_score} (min_score)"
            raise RecordError("too few boxes", where, what, fault=False)
        return {"caption": caption, "annotations": result}


def _read_label_map(
    label_map: str | Mapping[str, str] | None, json_file: str
) -> dict[int, str] | None:
    if label_map is None:
        return None
    source = "label_map"
    if isinstance(label_map, str):
        source = os.path.join(os.path.dirname(json_file), label_map)
        label_map = load_json(source, "label map")
    if not isinstance(label_map, Mapping) or not label_map:
        raise DataError(f"{source}: a label map is an object like {{'0': 'person'}}, not empty")
    try:
        return {int(label): str(name) for label, name in label_map.items()}
    except (TypeError, ValueError):
        raise DataError(f"{source}: the labels must be numbers, as in {{'0': 'person'}}") from None


def _parsed(json_file: str, report: Report) -> Iterator[tuple[int, Record]]:
    """(line number from 1, parsed line)."""
    try:
        file = open(json_file, encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise DataError(f"there is no annotation file {json_file!r}") from None
    except OSError as error:
        raise DataError(f"the annotation file {json_file!r}: {error.strerror}") from None
    with file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                yield number, _parse(text, f"{json_file}: line {number}")
            except RecordError as error:
                report.unusable(error)


def _parse(text: str, where: str) -> Record:
    try:
        line = json.loads(text.removeprefix("\ufeff"))  # of an editor on Windows
    except (ValueError, RecursionError) as error:
        raise RecordError("no valid json", where, f"the line is no valid json: {error}") from None
    if not isinstance(line, dict):
        raise RecordError("no valid json", where, "the line is no json object")
    return line


def _names_of_lines(lines: list[Record]) -> dict[int, str]:
    """label -> category as the instances say it."""
    names: dict[int, str] = {}
    for line in lines:
        detection = line.get("detection")
        instances = detection.get("instances") if isinstance(detection, dict) else None
        for instance in instances if isinstance(instances, list) else ():
            if not isinstance(instance, dict):
                continue  # reported when the line is read
            label, category = instance.get("label"), instance.get("category")
            if isinstance(label, int) and isinstance(category, str) and category.strip():
                names.setdefault(label, category)
    return names


def _spans(region: Record, caption: str, where: str) -> Any:
    if region.get("tokens_positive"):
        return region["tokens_positive"]
    phrases = region.get("phrase", "")
    phrases = phrases if isinstance(phrases, list) else [phrases]
    spans = [find_phrase(caption, str(phrase)) for phrase in phrases]
    if None in spans:
        what = f"the field 'phrase' {region.get('phrase')!r} does not occur in the caption"
        raise RecordError("phrase not in caption", where, f"{what} {caption[:60]!r}")
    return spans


def _boxes(region: Record, where: str) -> list[Any]:
    boxes = region.get("bbox")
    if not isinstance(boxes, list) or not boxes:
        raise RecordError("bad box", where, "the field 'bbox' is missing or empty")
    return boxes if isinstance(boxes[0], list) else [boxes]


def _box(box: Any, **fields: Any) -> Record:
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0, **fields}
