"""Images of equal content: a validation set must not have been trained on."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import DataError
from .containers import image_bytes
from .report import Record


def same_images(first: Iterable[Record], second: Iterable[Record]) -> list[tuple[str, str]]:
    """The images of some records that others have too, byte by byte, whatever they are called.

    Only files of one size are read. An image that was saved anew, smaller or as another format, is
    another one to this function.

    Args:
        first, second: records with `file_name` or `image_source`; images that cannot be read are
            passed over, since whoever checks the data set tells them.

    Returns:
        (file name of the first, that of the second), each of the first at most once.
    """
    theirs = _by_size(second)
    hashes: dict[int, dict[bytes, str]] = {}
    result = []
    for size, mine in _by_size(first).items():
        if size not in theirs:
            continue
        if size not in hashes:
            hashes[size] = {_hash(record): name for name, record in theirs[size].items()}
        for name, record in mine.items():
            if (other := hashes[size].get(_hash(record))) is not None:
                result.append((name, other))
    return result


def equal_images(records: Sequence[Record]) -> list[list[int]]:
    """Group records by the content of their images, byte by byte.

    Only files of one size are read.

    Args:
        records: with `file_name` or `image_source`.

    Returns:
        Positions in `records`, each once.

    Raises:
        OSError, DataError: an image is not there.
    """
    sizes = [_size(record) for record in records]
    count = Counter(sizes)
    groups: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i, (record, size) in enumerate(zip(records, sizes)):
        groups[size, _hash(record) if count[size] > 1 else b""].append(i)
    return list(groups.values())


def _by_size(records: Iterable[Record]) -> dict[int, dict[str, Record]]:
    """Bytes -> the file names with a record of each."""
    result: dict[int, dict[str, Record]] = defaultdict(dict)
    for record in records:
        with suppress(OSError, DataError):
            result[_size(record)][record["file_name"]] = record
    return result


def _size(record: Record) -> int:
    source = record.get("image_source")
    return os.path.getsize(record["file_name"]) if source is None else len(image_bytes(source))


def _hash(record: Record) -> bytes:
    source = record.get("image_source")
    content = Path(record["file_name"]).read_bytes() if source is None else image_bytes(source)
    return hashlib.blake2b(content).digest()
