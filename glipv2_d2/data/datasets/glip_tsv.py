"""GLIP's TSV files: images in one file, labels in another, rows found by byte offset.

The format is that of microsoft/scene_graph_benchmark's `mini_tsv` and GLIP's
`TSVYamlDataset`. Only offsets are kept, so that 15 million rows take some hundred megabytes; an
image or label row is read when it is asked for, in the data worker.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import yaml
from detectron2.structures import BoxMode

from ...errors import DataError, ImageReadError
from ..containers import TSV, ImageSource, read_row, row_offsets
from ..entries import json_objects
from ..images import record_image_size
from ..reader import RecordIndex
from ..report import Record, RecordError, Report
from .caption_labels import caption_fields, label_size, parse_label
from .coco_like import load_json, set_vocabulary

# Files that the yaml names.
FIELDS = ("img", "label", "hw", "linelist", "imageid2idx", "labelmap", "jsondict")


class GlipTsvRecords(RecordIndex):
    """Records of a GLIP TSV: captions with pseudo boxes, or detection labels.

    Args:
        yaml_file: names `img` and `label` (TSV), optionally `hw` (TSV with the image sizes,
            which are else read from the images where a label does not say them),
            `linelist` (a text file with the rows to use, one number a line; a row may occur several
            times), `imageid2idx` (json from a label's `img_id` to its image row, where several
            labels share an image), and for detection labels `labelmap` or `jsondict` (json from
            class names to ids). Paths are relative to the yaml.
        image_root: files that are not beside the yaml are looked for there.
        dataset_name: its metadata gets `thing_classes` if there is a label map.
        report: not used: a row is read, and what is wrong with it found, when it is asked for.
        min_score: pseudo boxes must score more (GLIP: 0.5).
        min_boxes: captions with fewer boxes are left out (GLIP: 1).
        check_keys: an image row must have the key of its label (or its `img_id`); False for
            files that were made with keys of their own.

    Attributes:
        classes: id in the file -> name, sorted by id; empty for captions.

    Raises:
        DataError: a file is missing or unreadable.
    """

    def __init__(
        self,
        yaml_file: str,
        image_root: str = "",
        dataset_name: str | None = None,
        *,
        report: Report | None = None,
        min_score: float = 0.5,
        min_boxes: int = 1,
        check_keys: bool = True,
    ):
        self.source = yaml_file
        self.check_keys = check_keys
        self.min_score = min_score
        self.min_boxes = min_boxes
        paths = _named_files(yaml_file, image_root)
        self.images = _Tsv(paths["img"])
        self.labels = _Tsv(paths["label"])
        self.sizes = _Tsv(paths["hw"]) if "hw" in paths else None
        self.rows = _read_line_list(paths["linelist"]) if "linelist" in paths else None
        self.image_rows = _KeyIndex(paths["imageid2idx"]) if "imageid2idx" in paths else None
        self.classes = _read_classes(paths.get("labelmap") or paths.get("jsondict"))
        self.has_captions = not self.classes
        self._ids = {name: index for index, name in enumerate(self.classes.values())}
        if self.rows is None and self.image_rows is None and len(self.images) < len(self.labels):
            raise DataError(
                f"{yaml_file}: 'img' has {len(self.images)} rows, 'label' {len(self.labels)}"
            )
        if self.classes and dataset_name is not None:
            ids = {i: k for k, i in enumerate(self.classes)}
            set_vocabulary(dataset_name, list(self._ids), ids, yaml_file)

    def __len__(self) -> int:
        return len(self.labels) if self.rows is None else len(self.rows)

    def key(self, index: int) -> str:
        """The first column of a label row, for people."""
        return self._label_row(index)[0].decode("utf-8", "replace")

    def label_bytes(self, index: int) -> bytes:
        """A label row as it is in the file."""
        return b"\t".join(self._label_row(index))

    def _label_row(self, index: int) -> list[bytes]:
        row = index if self.rows is None else int(self.rows[index])
        return self.labels.read(row, f"{self.labels.path}: row {row}")

    def read(self, index: int, report: Report) -> Record:
        row = index if self.rows is None else int(self.rows[index])
        where = f"{self.labels.path}: row {row}"
        columns = self.labels.read(row, where)
        if len(columns) < 2:
            raise RecordError("bad row", where, f"a label row has 2 columns, not {len(columns)}")
        key = columns[0].decode("utf-8", "replace")
        where = f"{where} ({key})"
        label = parse_label(columns[-1], where)
        record = self._image(row, key, label, where)
        record |= self._size(record, row, label, where)
        if isinstance(label, dict) and "caption" in label:
            text, scores, boxes = label["caption"], self.min_score, self.min_boxes
            return {**record, **caption_fields(label, text, where, report, scores, boxes)}
        return {**record, **self._detection(label, where, report)}

    def _image(self, row: int, key: str, label: Any, where: str) -> Record:
        image_row: int | None = row
        if self.image_rows is not None:
            image_id = label.get("img_id") if isinstance(label, dict) else None
            if image_id is None:
                raise RecordError("missing field", where, "the field 'img_id' is missing")
            key = str(image_id)
            image_row = self.image_rows.find(key)
        if image_row is None:
            raise RecordError("unknown image", where, f"img_id {key!r} is not in imageid2idx")
        offset = self.images.offset(image_row, where)
        expected = key if self.check_keys else ""
        source = ImageSource(TSV, self.images.path, offset, 0, expected)
        return {
            "file_name": f"{self.images.path}:{key}",
            "image_id": key if self.image_rows is None else f"{key}:{row}",
            "image_source": source,
        }

    def _size(self, record: Record, row: int, label: Any, where: str) -> Record:
        size = label_size(label, where) if isinstance(label, dict) else None
        if size is not None:
            return {"height": size[0], "width": size[1]}
        if self.sizes is None:
            try:
                size = record_image_size(record)
            except (ImageReadError, DataError) as error:
                raise RecordError("corrupt image", where, str(error)) from None
        else:
            text = self.sizes.read(row, where)[-1]
            try:
                size = _parse_size(text.decode("utf-8"))
            except (KeyError, IndexError, TypeError, ValueError, OverflowError):
                what = f"{self.sizes.path}: {text[:40]!r} is no height and width"
                raise RecordError("bad image size", where, what) from None
        return {"height": size[0], "width": size[1]}

    def _detection(self, label: Any, where: str, report: Report) -> Record:
        objects = label.get("objects") if isinstance(label, dict) else label
        if not isinstance(objects, list):
            what = "the label is neither a caption nor a list of objects"
            raise RecordError("bad row", where, what)
        if not self.classes:
            what = "detection labels need 'labelmap' or 'jsondict' in the yaml"
            raise RecordError("no label map", where, what)
        annotations = []
        for index, entry in json_objects(objects, f"{where}: objects", report.annotation):
            name = entry.get("class")
            category = self._ids.get(name) if isinstance(name, str) else None
            if category is None:
                what = f"the field 'class' is {name!r:.60}, which is not in the label map"
                report.annotation("unknown class", f"{where}: objects[{index}]", what)
                continue
            annotations.append(
                {
                    "bbox": entry.get("rect"),
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "iscrowd": int(bool(entry.get("IsGroupOf", 0))),
                    "category_id": category,
                }
            )
        return {"annotations": annotations}


class _Tsv:
    """The rows of one file."""

    def __init__(self, path: str):
        self.path = path
        self.offsets = row_offsets(path)

    def __len__(self) -> int:
        return len(self.offsets)

    def offset(self, row: int, where: str) -> int:
        if not 0 <= row < len(self.offsets):
            what = f"{self.path} has {len(self.offsets)} rows, there is no row {row}"
            raise RecordError("bad offset", where, what)
        return int(self.offsets[row])

    def read(self, row: int, where: str) -> list[bytes]:
        offset = self.offset(row, where)
        try:
            return read_row(self.path, offset)
        except DataError as error:
            raise RecordError("bad offset", where, str(error)) from None


class _KeyIndex:
    """A json object from keys to rows, as two arrays: some 16 bytes an entry instead of 150."""

    def __init__(self, path: str):
        rows = load_json(path, "imageid2idx")
        try:
            values = np.fromiter((int(row) for row in rows.values()), np.int32, len(rows))
        except (AttributeError, TypeError, ValueError, OverflowError):
            raise DataError(f"{path}: no json object from image ids to rows") from None
        keys = np.array(list(map(_encoded, rows)) or [b""])[: len(rows)]
        order = np.argsort(keys)
        self.keys, self.values = keys[order], values[order]

    def find(self, key: str) -> int | None:
        sought = _encoded(key)
        if len(sought) > self.keys.itemsize:  # numpy would widen all keys
            return None
        at = int(np.searchsorted(self.keys, sought))
        found = at < len(self.keys) and self.keys[at] == sought
        return int(self.values[at]) if found else None


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _named_files(yaml_file: str, image_root: str) -> dict[str, str]:
    """field of the yaml -> the path of its file."""
    try:
        with open(yaml_file, encoding="utf-8") as file:
            fields = yaml.safe_load(file)
    except FileNotFoundError:
        raise DataError(f"there is no annotation file {yaml_file!r}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{yaml_file}: no valid yaml: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{yaml_file}: not in GLIP's TSV format, which names 'img' and 'label'")
    folders = (os.path.dirname(yaml_file), image_root)
    paths = {}
    for field in FIELDS:
        name = fields.get(field)
        if not name and field in ("img", "label"):
            raise DataError(f"{yaml_file}: the field {field!r} is missing")
        if name and not isinstance(name, str):
            raise DataError(f"{yaml_file}: the field {field!r} is {name!r}, not one file name")
        if name:
            found = [path for f in folders if os.path.isfile(path := os.path.join(f, name))]
            if not found:
                where = f"the file {name!r} of the field {field!r} is in none of {folders}"
                raise DataError(f"{yaml_file}: {where}")
            paths[field] = found[0]
    return paths


def _read_line_list(path: str) -> np.ndarray:
    try:
        return np.loadtxt(path, dtype=np.int64, ndmin=1)
    except ValueError as error:
        raise DataError(f"{path}: a linelist has one row number a line: {error}") from error


def _read_classes(path: str | None) -> dict[int, str]:
    """id -> name, sorted by id; GLIP's label maps are name -> id, perhaps in `label_to_idx`."""
    if path is None:
        return {}
    content = load_json(path, "label map")
    try:
        names = content.get("label_to_idx", content)
        by_id = {int(i): name for name, i in names.items() if name != "__background__"}
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: no json object from class names to numbers") from None
    if not by_id or len(by_id) != len(names) - ("__background__" in names):
        raise DataError(f"{path}: the label map is empty, or two names have one id")
    return dict(sorted(by_id.items()))


def _parse_size(text: str) -> tuple[int, int]:
    """`[{"height": h, "width": w}]`, the object alone, or `"h w"`."""
    if text.lstrip()[:1] in ("[", "{"):
        value = json.loads(text)
        value = value[0] if isinstance(value, list) else value
        return int(value["height"]), int(value["width"])
    height, width = text.split()
    return int(height), int(width)
