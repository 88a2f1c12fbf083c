"""Where the members of a tar shard lie: one entry per sample."""

from __future__ import annotations

import logging
import os
import tarfile
from typing import BinaryIO, NamedTuple

import numpy as np

from ...errors import DataError
from ...files import whole_file

# Offsets of the json and txt members are relative to the image, within a sample far below 2 GB.
FIELDS = [
    ("image_offset", np.int64),
    ("image_size", np.int32),
    ("json_offset", np.int32),
    ("json_size", np.int32),
    ("text_offset", np.int32),
    ("text_size", np.int32),
]
# In place of an image size.
DAMAGED = -1
DUPLICATE = -2

_IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "bmp", "tif", "tiff", "gif")
_TEXTS = ("txt", "caption")


class _Sample(NamedTuple):
    key: str
    parts: dict[str, tuple[int, int]]  # "image", "json", "text" -> (offset, size)
    problem: int  # 0, DAMAGED or DUPLICATE


def shard_index(path: str) -> np.ndarray:
    """The samples of a shard, in its order.

    Read from `<shard>.index.npy` where that is newer than the shard; else the headers are read
    and it is written (if the folder can be written to).

    Returns:
        (samples,) structured array with `FIELDS` and `key`.

    Raises:
        DataError: no tar file.
    """
    cache = path + ".index.npy"
    try:
        if os.path.getmtime(cache) >= os.path.getmtime(path):
            return np.load(cache)
    except (OSError, ValueError):
        pass
    index = _as_array(_scan(path))
    try:
        with whole_file(cache) as file:
            np.save(file, index)
    except OSError:
        logging.getLogger(__name__).info("the index %s cannot be written", cache)
    return index


def _scan(path: str) -> list[_Sample]:
    """The samples of a shard: members that follow each other with one name up to the first dot,
    as webdataset has it. A damaged place gives a sample of its own, marked as such.
    """
    samples: list[_Sample] = []
    keys: set[str] = set()
    start: int | None = 0
    with open(path, "rb") as file:
        while start is not None:
            file.seek(start)
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()  # tarfile would keep every header
                        if member.isfile():
                            _add(samples, keys, member)
                    stop = tar.offset
            except tarfile.TarError as error:
                if not samples:
                    raise DataError(f"{path} is no tar file: {error}") from error
                break  # cut off inside a member; reading that member says so
            # tarfile takes a damaged header for the end.
            start = _next_header(file, stop)
            if start is not None:
                samples.append(_Sample(f"byte {stop}", {}, DAMAGED))
    return samples


def _add(samples: list[_Sample], keys: set[str], member: tarfile.TarInfo) -> None:
    key, part = _split(member.name)
    if not samples or samples[-1].key != key:
        samples.append(_Sample(key, {}, DUPLICATE if key in keys else 0))
        keys.add(key)
    if part is not None:
        samples[-1].parts.setdefault(part, (member.offset_data, member.size))


def _next_header(file: BinaryIO, offset: int) -> int | None:
    """Where a member begins at or after `offset`, if what lies there is not the regular end."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block.strip(b"\0"):
        return None  # zeros, or nothing
    while len(block) == tarfile.BLOCKSIZE:
        offset += tarfile.BLOCKSIZE
        block = file.read(tarfile.BLOCKSIZE)
        if block[257:262] != b"ustar":
            continue
        try:
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            continue
        return offset
    return None


def _split(name: str) -> tuple[str, str | None]:
    """(key, part) of a member's name: "a/0001.jpg" is the image of the sample "a/0001"."""
    folder, base = os.path.split(name)
    stem, _, suffix = base.partition(".")
    suffix = suffix.lower()
    part = None
    if suffix in _IMAGES:
        part = "image"
    elif suffix in _TEXTS:
        part = "text"
    elif suffix == "json":
        part = "json"
    return os.path.join(folder, stem), part


def _as_array(samples: list[_Sample]) -> np.ndarray:
    keys = [sample.key.encode("utf-8", "surrogateescape") for sample in samples]
    width = max(map(len, keys), default=1)
    result = np.zeros(len(samples), dtype=[*FIELDS, ("key", f"S{max(width, 1)}")])
    for row, (key, sample) in enumerate(zip(keys, samples)):
        # A sample that cannot be used is kept, so that it can be counted.
        base, size = sample.parts.get("image", (0, 0))
        values = [base, sample.problem or size]
        for part in ("json", "text"):
            offset, size = sample.parts.get(part, (base, 0))
            values += [offset - base if base else 0, size if base else 0]
        result[row] = (*values, key)
    return result
