"""Image-text pairs in WebDataset tar shards, found by byte offset.

Shuffling over all shards, exact sharding over processes and resuming in the middle of an epoch need
any sample in one read. The `webdataset` package streams: release 1.0 has no random access any more,
and the `wids` of earlier ones counts samples but keeps no offsets, reads all headers again whenever
it opens a shard, and does not know long names. Here Python's `tarfile` reads the headers once, and
25 bytes and the name of each sample are kept beside the shard. The tests compare with what
`webdataset` reads.
"""

from __future__ import annotations

import glob
import logging
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np

from ...errors import DataError, ImageReadError
from ...files import whole_file
from ..containers import TAR, ImageSource, read_bytes
from ..images import record_image_size
from ..reader import RecordIndex
from ..report import Record, RecordError, Report, reported
from ..samplers import MOST_UNUSABLE
from .caption_labels import caption_fields, label_size, parse_label

_SUFFIXES = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "ppm", "bmp", "tif", "tiff", "gif"), "image"),
    **dict.fromkeys(("txt", "caption"), "text"),
    "json": "json",
}
# Of an index: where the content of a member begins, in blocks (0: there is none), and its bytes.
_FIELDS = [name for part in ("image", "json", "text") for name in (part, f"{part}_size")]
# Archives end with zeros, as many as fill a record of the tape; more are a hole in the file.
_MOST_PADDING = 1 << 20


class TarRecords(RecordIndex):
    """Records of WebDataset shards: `key.jpg` (or another image), `key.txt` (the caption) and
    `key.json`.

    The json has `caption` (else the txt is it), `bboxes, scores, tokens_positive` as in
    GLIP's pseudo labels, and the image size as `height, width` or `img_h, img_w`; a size that
    is missing is read from the header of the image.

    Args:
        shards: a tar file, a pattern (`"shards/*.tar"`), or a list of these.
        image_root: not used: the images are in the shards.
        dataset_name: not used: captions have no vocabulary.
        report: takes damaged shards; one of its own by default, which is logged.
        min_score, min_boxes: see `GlipTsvRecords`; pairs without labels can be read with
            `min_boxes=0`.
        caption: the field of the json that has the caption.
        most_damaged: the share of all bytes that may lie behind a damage.

    A shard that is damaged or cut off is one problem (`damaged shard`); its samples before that
    place are used.

    Raises:
        DataError: there is no shard, one is compressed, or more than `most_damaged` of the bytes
            of all lie behind a damage.
    """

    def __init__(
        self,
        shards: str | Iterable[str],
        image_root: str = "",
        dataset_name: str | None = None,
        *,
        report: Report | None = None,
        min_score: float = 0.5,
        min_boxes: int = 1,
        caption: str = "caption",
        most_damaged: float = MOST_UNUSABLE,
    ):
        self.paths = paths = list(_expand([shards] if isinstance(shards, str) else shards))
        folder = os.path.dirname(paths[0])
        self.source = paths[0] if len(paths) == 1 else os.path.join(folder, "*")
        self.min_score = min_score
        self.min_boxes = min_boxes
        self.caption = caption
        with reported(self.source, report) as report:
            indices = _sound_indices(paths, report, most_damaged)
        self.entries = np.concatenate(indices)
        self.starts = np.cumsum([0] + [len(index) for index in indices])
        text, size = "%d samples in %d tar shards, %.1f MiB of index", self.entries.nbytes / 2**20
        logging.getLogger(__name__).info(text, len(self.entries), len(paths), size)

    def __len__(self) -> int:
        return len(self.entries)

    def key(self, index: int) -> str:
        """The name of a sample, for people."""
        return self.entries[index]["key"].decode("utf-8", "replace")

    def read(self, index: int, report: Report) -> Record:
        entry = self.entries[index]
        path = self.paths[int(np.searchsorted(self.starts, index, side="right")) - 1]
        key = self.key(index)
        where = f"{path}: sample {key!r}"
        if entry["again"]:
            what = "an earlier sample has this name; the members of one must follow each other"
            raise RecordError("duplicate id", where, what)
        if not entry["image"]:
            raise RecordError("no image", where, "the sample has no image member")
        label = parse_label(_member(path, entry, "json", where) or b"{}", where)
        if not isinstance(label, dict):
            raise RecordError("bad label", where, "the json is no object")
        caption = label.get(self.caption)
        if caption is None:
            try:
                caption = _member(path, entry, "text", where).decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                what = f"the txt member is not UTF-8: {error}"
                raise RecordError("caption not UTF-8", where, what) from None
            if not caption:
                what = "no caption in the txt or json member"
                raise RecordError("empty caption", where, what)
        record: Record = {
            "file_name": f"{path}:{key}",
            "image_id": f"{os.path.basename(path)}:{key}",
            "image_source": ImageSource(TAR, path, *_extent(entry, "image"), key),
            **caption_fields(label, caption, where, report, self.min_score, self.min_boxes),
        }
        size = label_size(label, where)
        try:
            size = size or record_image_size(record)
        except (ImageReadError, DataError) as error:
            raise RecordError("corrupt image", where, str(error)) from None
        record["height"], record["width"] = size
        return record


def _extent(entry: np.void, part: str) -> tuple[int, int]:
    """(offset, size) of a member's content."""
    return int(entry[part]) * tarfile.BLOCKSIZE, int(entry[f"{part}_size"])


def _member(path: str, entry: np.void, part: str, where: str) -> bytes:
    try:
        return read_bytes(path, *_extent(entry, part))
    except DataError as error:
        raise RecordError("corrupt tar member", where, str(error)) from None


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


def _sound_indices(paths: list[str], report: Report, most_damaged: float) -> list[np.ndarray]:
    """The index of each shard; what is damaged goes to the report."""
    indices, sizes, lost = [], 0, 0
    for path in paths:
        index, end = _shard_index(path)
        indices.append(index)
        size = os.path.getsize(path)
        sizes += size
        if not _ends_at(path, end):
            lost += size - end
            what = f"no member begins here; {len(index)} samples before it are used"
            report.record(
                "damaged shard", f"{path}: byte {end}", what if end else "it is no tar file"
            )
    if lost > most_damaged * sizes:
        raise DataError(
            f"{lost / sizes:.0%} of the bytes of {len(paths)} tar shards lie behind a damage, more "
            f"than {most_damaged:.0%} stop the run: {report.summary()}. Get the shards again"
        )
    return indices


def _shard_index(path: str) -> tuple[np.ndarray, int]:
    """The samples of a shard, in its order, and the byte where its last whole member ends.

    They are read from `<shard>.index.npy` if that is newer than the shard and in today's form;
    else from the headers, and it is written (if the folder can be written to). Its last entry has
    the end as its image.
    """
    cache = path + ".index.npy"
    index = None
    with suppress(OSError, ValueError, EOFError):
        if os.path.getmtime(cache) >= os.path.getmtime(path):
            index = np.load(cache)
    if index is None or index.dtype.names != _index_type(1).names:
        index = _read_headers(path)
        try:
            with whole_file(cache) as file:
                np.save(file, index)
        except OSError:
            logging.getLogger(__name__).info("the index %s cannot be written", cache)
    return index[:-1], _extent(index[-1], "image")[0]


def _index_type(width: int) -> np.dtype:
    return np.dtype(
        [(name, np.uint32) for name in _FIELDS] + [("again", "?"), ("key", f"S{width}")]
    )


def _read_headers(path: str) -> np.ndarray:
    """Samples are members that follow each other with one name up to the first dot, as webdataset
    has it."""
    samples: list[tuple[bytes, dict[str, int]]] = []
    end, size = 0, os.path.getsize(path)
    with suppress(tarfile.TarError), tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.offset_data + member.size > size:
                break
            end = tar.offset
            if not member.isfile():
                continue
            folder, base = os.path.split(member.name)
            stem, _, suffix = base.partition(".")
            key = os.path.join(folder, stem).encode("utf-8", "surrogateescape")
            if not samples or samples[-1][0] != key:
                samples.append((key, {}))
            parts, part = samples[-1][1], _SUFFIXES.get(suffix.lower())
            if part is not None and part not in parts:
                parts[part] = member.offset_data // tarfile.BLOCKSIZE
                parts[f"{part}_size"] = member.size
    seen: set[bytes] = set()
    rows = []
    for key, parts in [*samples, (b"", {"image": end // tarfile.BLOCKSIZE})]:
        rows.append((*(parts.get(field, 0) for field in _FIELDS), key in seen, key))
        seen.add(key)
    return np.array(rows, dtype=_index_type(max(map(len, seen)) or 1))


def _ends_at(path: str, end: int) -> bool:
    """Whether nothing but padding follows the last whole member of a shard."""
    with open(path, "rb") as file:
        file.seek(end)
        rest = file.read(_MOST_PADDING + 1)
    return end > 0 and len(rest) <= _MOST_PADDING and not rest.strip(b"\0")
