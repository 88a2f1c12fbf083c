"""Image-text pairs in WebDataset tar shards, found by byte offset.

The `webdataset` package streams a shard from its beginning; its `wids` part has random access,
but walks through the headers of a shard again each time it opens one, and each sample drags the
whole pipeline of decoders. Here the headers of a shard are read once, the offsets are kept (40
bytes a sample) and written beside the shard, so that any sample costs one read. That is what
shuffling over all shards, exact sharding over processes and resuming in the middle of an epoch
need. The tests compare with what `webdataset` reads from the same shards.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ...errors import DataError, ImageReadError
from ..containers import TAR, ImageSource, read_bytes
from ..images import record_image_size
from ..reader import RecordIndex
from ..report import RecordError, Report
from .caption_labels import (
    caption_annotations,
    label_size,
    parse_label,
    require_boxes,
)
from .tar_index import DAMAGED, DUPLICATE, shard_index

Record = dict[str, Any]

_UNUSABLE = {
    0: lambda where: ("no image", where, "the sample has no image member"),
    DAMAGED: lambda where: ("damaged tar", where, "the header of a member is damaged"),
    DUPLICATE: lambda where: ("duplicate id", where, "an earlier sample has this name"),
}


def load_tar_shards(
    shards: str | Iterable[str],
    image_root: str = "",
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    min_score: float = 0.5,
    min_boxes: int = 1,
) -> TarRecords:
    """Records of WebDataset shards: `key.jpg` (or another image), `key.txt` (the caption) and
    `key.json`.

    The json has `caption` (else the txt is it), `bboxes, scores, tokens_positive` as in
    GLIP's pseudo labels, and the image size as `height, width` or `img_h, img_w`; a size that
    is missing is read from the header of the image.

    Args:
        shards: a tar file, a pattern (`"shards/*.tar"`), or a list of these.
        image_root: not used: the images are in the shards.
        dataset_name: not used: captions have no vocabulary.
        min_score, min_boxes: see `load_glip_tsv`; pairs
            without labels can be read with `min_boxes=0`.

    Raises:
        DataError: there is no shard, or one is compressed.
    """
    del image_root, dataset_name
    paths = list(_expand([shards] if isinstance(shards, str) else shards))
    return TarRecords(paths, min_score, min_boxes)


class TarRecords(RecordIndex):
    """See `load_tar_shards`."""

    def __init__(self, paths: list[str], min_score: float, min_boxes: int):
        self.source = paths[0] if len(paths) == 1 else os.path.join(os.path.dirname(paths[0]), "*")
        self.paths = paths
        self.min_score = min_score
        self.min_boxes = min_boxes
        indices = [shard_index(path) for path in paths]
        self.entries = np.concatenate(indices)
        self.starts = np.cumsum([0] + [len(index) for index in indices])
        logging.getLogger(__name__).info(
            "%d samples in %d tar shards, %.1f MiB of index",
            len(self.entries),
            len(paths),
            self.entries.nbytes / 2**20,
        )

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int, report: Report) -> Record:
        entry = self.entries[index]
        path = self.paths[int(np.searchsorted(self.starts, index, side="right")) - 1]
        key = entry["key"].decode("utf-8", "replace")
        where = f"{path}: sample {key!r}"
        if entry["image_size"] <= 0:
            raise RecordError(*_UNUSABLE[int(entry["image_size"])](where))
        label = {}
        if entry["json_size"]:
            label = parse_label(_member(path, entry, "json", where), where)
            if not isinstance(label, dict):
                raise RecordError("bad label", where, "the json is no object")
        caption = self._caption(path, entry, label, where)
        image_at, size = int(entry["image_offset"]), int(entry["image_size"])
        record = {
            "file_name": f"{path}:{key}",
            "image_id": f"{os.path.basename(path)}:{key}",
            "image_source": ImageSource(TAR, path, image_at, size, key),
            "caption": caption,
            "annotations": caption_annotations(label, caption, where, report, self.min_score),
        }
        require_boxes(record["annotations"], self.min_boxes, where)
        record["height"], record["width"] = _size(record, label, where)
        return record

    def _caption(self, path: str, entry: np.void, label: Record, where: str) -> str:
        caption = label.get("caption")
        if caption is None and entry["text_size"]:
            try:
                caption = _member(path, entry, "text", where).decode("utf-8").strip()
            except UnicodeDecodeError as error:
                what = f"the txt member is not UTF-8: {error}"
                raise RecordError("caption not UTF-8", where, what) from None
        if not isinstance(caption, str) or not caption.strip():
            raise RecordError("empty caption", where, "no caption in the txt or json member")
        return caption


def _member(path: str, entry: np.void, part: str, where: str) -> bytes:
    offset = int(entry["image_offset"]) + int(entry[part + "_offset"])
    try:
        return read_bytes(path, offset, int(entry[part + "_size"]))
    except DataError as error:
        raise RecordError("corrupt tar member", where, str(error)) from None


def _size(record: Record, label: Record, where: str) -> tuple[int, int]:
    for height, width in (("img_h", "img_w"), ("height", "width")):
        if label.get(height) and label.get(width):
            return label_size(label, height, width, where)
    try:
        return record_image_size(record)
    except (ImageReadError, DataError) as error:
        raise RecordError("corrupt image", where, str(error)) from None


def _expand(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        found = sorted(glob.glob(pattern))
        if not found:
            raise DataError(f"there is no tar shard {pattern!r}")
        for path in found:
            if not path.endswith(".tar"):
                raise DataError(
                    f"{path}: shards are read by offset, which needs plain .tar files; unpack it"
                )
            yield path
