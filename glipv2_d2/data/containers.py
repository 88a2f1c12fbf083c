"""Bytes out of other files by offset: rows of a TSV, members of a tar, texts of a json.

`os.pread` has no file position, so that data workers, which share the descriptors of the process
they were forked from, do not disturb each other.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import weakref
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..files import whole_file

TSV = "tsv"
TAR = "tar"
BASE64 = "base64"

_OPEN_FILES = 64
_CHUNK = 1 << 18


class ImageSource(NamedTuple):
    """Where the bytes of an image lie; the field `image_source` of a record.

    Attributes:
        kind: `"tsv"` (a row whose last column is base64), `"tar"`, or `"base64"` (a text in a
            json).
        path: the container.
        offset: of the row, or of the content.
        size: of the content in bytes; not used for a row, which ends with its line.
        key: the first column of the row (empty: not compared), or the member's name.
    """

    kind: str
    path: str
    offset: int
    size: int
    key: str


def image_bytes(source: ImageSource) -> bytes:
    """The encoded image (JPEG, PNG, ...).

    Raises:
        DataError: the container is missing or shorter, the row has another key, or its last
            column is no base64.
    """
    if source.kind == TAR:
        return read_bytes(source.path, source.offset, source.size)
    if source.kind == BASE64:
        return _decoded(read_bytes(source.path, source.offset, source.size), source.path)
    columns = read_row(source.path, source.offset)
    key = columns[0].decode("utf-8", "replace")
    if source.key and key != source.key:
        raise DataError(
            f"{source.path}: the row at byte {source.offset} has the key {key[:60]!r}, "
            f"expected {source.key!r}: the index (.lineidx) belongs to another file"
        )
    where = f"{source.path}: row {source.key!r} at byte {source.offset}: the last column"
    return _decoded(columns[-1], where)


def _decoded(text: bytes, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(f"{where} is no base64: {error}") from None


def read_bytes(path: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`.

    Raises:
        DataError: the file is missing or ends before.
    """
    file = _opened(path)
    parts, done = [], 0
    while done < size:
        part = os.pread(file.descriptor, size - done, offset + done)
        if not part:
            raise DataError(
                f"{path}: {size} bytes are expected at byte {offset}, but the file ends after "
                f"{done} of them"
            )
        parts.append(part)
        done += len(part)
    return b"".join(parts)


def read_row(path: str, offset: int) -> list[bytes]:
    """The columns of the TSV row that begins at `offset`.

    Raises:
        DataError: the file is missing, or no row begins there.
    """
    file = _opened(path)
    # One byte more: what stands before a row is the end of another.
    start = max(offset - 1, 0)
    data = os.pread(file.descriptor, _CHUNK, start) if offset >= 0 else b""
    if offset < 0 or len(data) <= offset - start or (offset > 0 and data[:1] != b"\n"):
        raise DataError(f"{path}: no row begins at byte {offset}: the index (.lineidx) is wrong")
    data = data[offset - start :]
    while b"\n" not in data:
        part = os.pread(file.descriptor, max(_CHUNK, len(data)), offset + len(data))
        if not part:
            break
        data += part
    return [column.strip() for column in data.split(b"\n", 1)[0].split(b"\t")]


def row_offsets(path: str) -> np.ndarray:
    """Where the rows of a text file begin, (rows,) int64.

    Read from `<stem>.lineidx` beside it (GLIP's TSV format: one offset per line), which is made
    where it is missing and the folder can be written to.

    Raises:
        DataError: the file is missing, or the index is no list of numbers.
    """
    index_file = os.path.splitext(path)[0] + ".lineidx"
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path!r}")
    if os.path.isfile(index_file):
        offsets = _read_index(index_file)
        if not _ends_with_the_file(path, offsets):
            logging.getLogger(__name__).warning(
                "the last row of %s is not where %s says: was the file changed after its index was "
                "made? Remove the index, and it is made anew", path, index_file,
            )  # fmt: skip
        return offsets
    logging.getLogger(__name__).info("%s has no index; reading it once to make one", path)
    offsets = _scan(path)
    try:
        with whole_file(index_file, "w") as file:
            np.savetxt(file, offsets, fmt="%d")
    except OSError:
        logging.getLogger(__name__).warning(
            "%s cannot be written; %s is read anew by every process", index_file, path
        )
    return offsets


def _read_index(index_file: str) -> np.ndarray:
    if not os.path.getsize(index_file):  # of which loadtxt would warn
        return np.zeros(0, dtype=np.int64)
    try:
        return np.loadtxt(index_file, dtype=np.int64, comments=None, ndmin=1)
    except ValueError as error:
        raise DataError(
            f"{index_file}: not a byte offset a line ({error}); remove the file and it is made anew"
        ) from None


def _ends_with_the_file(path: str, offsets: np.ndarray) -> bool:
    """Whether the last offset is that of the last row."""
    size = os.path.getsize(path)
    if not len(offsets) or not 0 <= offsets[-1] < size:
        return len(offsets) == size == 0
    with open(path, "rb") as file:
        file.seek(max(int(offsets[-1]) - 1, 0))
        before = file.read(1) if offsets[-1] else b"\n"
        return before == b"\n" and b"\n" not in file.read().rstrip(b"\r\n")


def _scan(path: str) -> np.ndarray:
    offsets, position = [np.zeros(1, dtype=np.int64)], 0
    with open(path, "rb") as file:
        while block := file.read(1 << 24):
            ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10)
            offsets.append(ends + position + 1)
            position += len(block)
    joined = np.concatenate(offsets)
    return joined[joined < position]  # nothing begins after the last line end


class _OpenFile:
    """A file that is closed when nobody keeps or reads it any more."""

    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)


# Those of all threads together, so that nothing stays open for a thread that has ended.
_kept_open = lru_cache(maxsize=_OPEN_FILES)(_OpenFile)


def _opened(path: str) -> _OpenFile:
    try:
        return _kept_open(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path!r}") from None
    except OSError as error:
        raise DataError(f"the file {path!r} cannot be opened: {error}") from None
