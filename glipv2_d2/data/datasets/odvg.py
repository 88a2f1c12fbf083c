"""ODVG jsonl (MM-Grounding-DINO, Open-GroundingDino): a detection or a grounding record a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from detectron2.structures import BoxMode

from ...errors import DataError
from ...language.spans import find_phrase
from ..checks import not_utf8
from ..containers import read_bytes, row_offsets
from ..entries import field_of, file_name_problem, id_problem, json_objects
from ..reader import RecordIndex
from ..report import RecordError, Report, reported
from .coco_like import load_json, set_vocabulary

Record = dict[str, Any]


def load_odvg(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    label_map: str | Mapping[str, str] | None = None,
    lazy: bool = False,
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
        label_map: `{"0": "person", ...}` or the json file that holds it (beside `json_file`
            if its path is relative); without it the names are those that the lines give to their
            labels.
        lazy: keep offsets only and read a line when it is asked for (files of many millions of
            lines); detection lines need `label_map` then.

    Raises:
        DataError: the file or the label map is missing or unreadable.
    """
    names = _read_label_map(label_map, json_file)
    records: list[Record] | OdvgRecords
    if lazy:
        vocabulary = None if names is None else _Vocabulary(names, json_file)
        records = OdvgRecords(json_file, image_root, vocabulary)
    else:
        with reported(json_file, report) as report:
            lines = list(_parsed(json_file, report))
            names = _names_of_lines([line for _, line in lines]) if names is None else names
            vocabulary = _Vocabulary(names, json_file) if names else None
            records = list(_records(lines, image_root, vocabulary, json_file, report))
    if vocabulary is not None and dataset_name is not None:
        vocabulary.publish(dataset_name)
    return records


def _records(
    lines: Iterable[tuple[int, Record]],
    image_root: str,
    vocabulary: _Vocabulary | None,
    json_file: str,
    report: Report,
) -> Iterator[Record]:
    for number, line in lines:
        try:
            yield odvg_record(line, number, image_root, vocabulary, json_file, report)
        except RecordError as error:
            report.unusable(error)


class OdvgRecords(RecordIndex):
    """Lines that are parsed when they are asked for."""

    def __init__(self, json_file: str, image_root: str, vocabulary: _Vocabulary | None):
        self.source = json_file
        self.image_root = image_root
        self.vocabulary = vocabulary
        self.offsets = row_offsets(json_file)
        self.end = os.path.getsize(json_file)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, index: int, report: Report) -> Record:
        start = int(self.offsets[index])
        end = int(self.offsets[index + 1]) if index + 1 < len(self.offsets) else self.end
        where = f"{self.source}: line {index + 1}"
        try:
            text = read_bytes(self.source, start, end - start)
        except (DataError, ValueError) as error:
            raise RecordError("bad offset", where, str(error)) from None
        line = _parse(text.decode("utf-8", "surrogateescape"), where)
        return odvg_record(line, index + 1, self.image_root, self.vocabulary, self.source, report)


class _Vocabulary:
    """Class names by label; contiguous ids in the order of the labels."""

    def __init__(self, names: Mapping[int, str], json_file: str):
        for label, name in names.items():
            if not name.strip() or not_utf8(name):
                raise DataError(f"{json_file}: label {label} has no name but {name!r}")
        self.names = {label: names[label] for label in sorted(names)}
        self.ids = {label: index for index, label in enumerate(self.names)}
        self.json_file = json_file

    def publish(self, dataset_name: str) -> None:
        set_vocabulary(dataset_name, list(self.names.values()), self.ids, self.json_file)


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


def odvg_record(
    line: Record,
    number: int,
    image_root: str,
    vocabulary: _Vocabulary | None,
    json_file: str,
    report: Report,
) -> Record:
    """The record of one line.

    Raises:
        RecordError: the line cannot be used.
    """
    where = f"{json_file}: line {number} ({line.get('filename')})"
    for field in ("filename", "height", "width"):
        if not line.get(field):
            raise RecordError("missing field", where, f"the field {field!r} is missing or empty")
    if problem := file_name_problem(line["filename"]):
        raise RecordError("bad file name", where, f"the field 'filename': {problem}")
    kinds = [kind for kind in ("detection", "grounding") if isinstance(line.get(kind), dict)]
    if len(kinds) != 1:
        what = "a line has either 'detection' or 'grounding'"
        raise RecordError("neither or both kinds", where, f"{what}, this one has {kinds or 'none'}")
    record = {
        "file_name": os.path.join(image_root, line["filename"]),
        "height": line["height"],
        "width": line["width"],
        "image_id": number,
    }
    if kinds == ["detection"]:
        if vocabulary is None:
            raise RecordError(
                "no label map", where, "detection lines need a label_map with the class names"
            )
        instances = field_of(line["detection"], "instances", list, where)
        record["annotations"] = _instances(instances, vocabulary, where, report)
    else:
        grounding = line["grounding"]
        if not isinstance(grounding.get("caption"), str) or not grounding["caption"].strip():
            raise RecordError("empty caption", where, "grounding.caption is missing or empty")
        if not_utf8(grounding["caption"]):
            raise RecordError("caption not UTF-8", where, "grounding.caption is not UTF-8")
        record["caption"] = grounding["caption"]
        record["annotations"] = _regions(grounding, where, report)
    return record


def _instances(
    instances: list[Record], vocabulary: _Vocabulary, where: str, report: Report
) -> list[Record]:
    result = []
    for index, instance in json_objects(
        instances, f"{where}: detection.instances", report.annotation
    ):
        place = f"{where}: detection.instances[{index}]"
        label: Any = instance.get("label")
        name = None if id_problem(label) else vocabulary.names.get(label)
        if name is None:
            report.annotation("unknown class", place, f"the field 'label' is {label!r}: not known")
        elif instance.get("category", name) != name:
            what = f"label {label} is {name!r} in the label map, but 'category' says "
            report.annotation("name and id differ", place, what + repr(instance["category"]))
        else:
            result.append(_box(instance.get("bbox"), category_id=vocabulary.ids[label]))
    return result


def _regions(grounding: Record, where: str, report: Report) -> list[Record]:
    caption, result = grounding["caption"], []
    regions = field_of(grounding, "regions", list, where)
    for index, region in json_objects(regions, f"{where}: grounding.regions", report.annotation):
        place = f"{where}: grounding.regions[{index}]"
        phrases = region.get("phrase", "")
        phrases = phrases if isinstance(phrases, list) else [phrases]
        spans = region.get("tokens_positive")
        if not spans:
            spans = [find_phrase(caption, str(phrase)) for phrase in phrases]
            if None in spans:
                what = f"the field 'phrase' {region.get('phrase')!r} does not occur in the caption"
                report.annotation("phrase not in caption", place, f"{what} {caption[:60]!r}")
                continue
        boxes = region.get("bbox")
        if not isinstance(boxes, list) or not boxes:
            report.annotation("bad box", place, "the field 'bbox' is missing or empty")
            continue
        for box in boxes if isinstance(boxes[0], list) else [boxes]:
            result.append(_box(box, spans=spans))
    return result


def _box(box: Any, **fields: Any) -> Record:
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0, **fields}
