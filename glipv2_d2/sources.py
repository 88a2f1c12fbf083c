"""The bytes of an image that has a name: of a file, of an address, of a member of an archive.

A member is named by its archive and an exclamation mark, `photos.zip!holiday/beach.jpg`. Archives
are zip files and plain tar files, as WebDataset's shards are.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
import urllib.request
import zipfile
import zlib
from functools import lru_cache
from http.client import HTTPException
from typing import IO

from detectron2.utils.file_io import PathManager

from .errors import ImageReadError

__all__ = [
    "ARCHIVES",
    "archive_members",
    "is_address",
    "is_member",
    "open_source",
    "stamp",
]

ARCHIVES = (".zip", ".tar")
# A web page's picture takes seconds and some megabytes; what takes more is fetched by hand.
DOWNLOAD_SECONDS = 60
SILENT_SECONDS = 15
MOST_BYTES = 1 << 28

_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://", re.IGNORECASE)
_MEMBER = re.compile(r"(.+?\.(?:zip|tar))!(.+)", re.IGNORECASE | re.DOTALL)


def is_address(text: str) -> bool:
    """Whether it is one ("https://...", or another of Detectron2's PathManager) and not a path."""
    return _ADDRESS.match(text) is not None


def is_member(name: str) -> bool:
    """Whether it is the name of a member of an archive that is there."""
    archive, member = _split(name)
    return bool(member) and os.path.isfile(archive) and member in _index(archive)


def stamp(name: str) -> list[int] | None:
    """Size and time of change of a file or archive, by which a changed one is known; None of what
    is not on this machine."""
    if is_address(name):
        return None
    try:
        status = os.stat(_split(name)[0])
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def open_source(name: str) -> IO[bytes]:
    """Open what is behind a name, for reading bytes.

    Raises:
        ImageReadError: the archive is damaged or its member encrypted; or a download is too large,
            takes too long, or is cut off.
        OSError: nothing is there, or it cannot be read.
    """
    archive, member = _split(name)
    if member:
        return io.BytesIO(_member_bytes(archive, member))
    if name.lower().startswith(("http://", "https://")):
        return io.BytesIO(_download(name))
    return PathManager.open(name, "rb")


def archive_members(path: str) -> list[str]:
    """The names of the files in an archive, each once, in the order of the alphabet.

    Raises:
        ImageReadError: it is damaged, cut off, or a compressed tar file.
        OSError: it cannot be read.
    """
    return sorted(_index(path))


def _split(name: str) -> tuple[str, str]:
    """Archive and member; the name itself and "" of a file."""
    found = _MEMBER.fullmatch(name)
    if found is None or is_address(name) or os.path.exists(name):
        return name, ""
    return found[1], found[2]


def _index(path: str) -> dict[str, tuple[int, int]]:
    """Where each member begins in an archive, and its bytes there; read once, unless it changes."""
    status = os.stat(path)
    return _read_index(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_index(path: str, size: int, _: int) -> dict[str, tuple[int, int]]:
    if path.lower().endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                files = [info for info in archive.infolist() if not info.is_dir()]
                return {info.filename: (info.header_offset, info.file_size) for info in files}
        except zipfile.BadZipFile as error:
            raise ImageReadError(f"{path!r} is no whole zip file: {error}; get it again") from None
    index, end = {}, 0
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                if entry.offset_data + entry.size > size:
                    raise tarfile.ReadError(f"{entry.name!r} is cut off")
                if entry.isfile():
                    index[entry.name] = (entry.offset_data, entry.size)
                end = tar.offset
        with open(path, "rb") as file:  # `tarfile` takes a damaged header for the end
            file.seek(end)
            if file.read(1 << 20).strip(b"\0"):
                raise tarfile.ReadError(f"no member begins at byte {end}")
    except tarfile.TarError as error:
        raise ImageReadError(
            f"{path!r} is no whole tar file ({error}): get it again, or unpack it where it is "
            "compressed"
        ) from None
    return index


def _member_bytes(path: str, member: str) -> bytes:
    index = _index(path)
    if member not in index:
        raise FileNotFoundError(f"{path!r} has no member {member!r}")
    begin, size = index[member]
    if size > MOST_BYTES:
        raise ImageReadError(_too_large(f"{path}!{member}"))
    if not path.lower().endswith(".zip"):
        with open(path, "rb") as file:
            file.seek(begin)
            return file.read(size)
    try:
        return _opened_zip(path, os.getpid(), *(stamp(path) or ())).read(member)
    except (RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # encrypted, damaged
        raise ImageReadError(f"{member!r} of {path!r} cannot be read: {error}") from None


@lru_cache(maxsize=8)
def _opened_zip(path: str, *_: int) -> zipfile.ZipFile:
    """Open for as long as it is cached: its directory is read once, not once for each member.

    In each process anew, since forked ones would move each other's position in the file.
    """
    return zipfile.ZipFile(path)


def _download(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "glipv2_d2"})
    end = time.monotonic() + DOWNLOAD_SECONDS
    parts, done = [], 0
    try:
        with urllib.request.urlopen(request, timeout=SILENT_SECONDS) as response:
            expected = response.headers.get("Content-Length")
            while part := response.read(1 << 16):
                parts.append(part)
                done += len(part)
                if done > MOST_BYTES:
                    raise ImageReadError(_too_large(url))
                if time.monotonic() > end:
                    raise ImageReadError(
                        f"{url!r} has sent {done} bytes in {DOWNLOAD_SECONDS} seconds and is not "
                        "done: fetch it by hand"
                    )
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from None
    if expected is not None and done < int(expected):
        raise ImageReadError(f"{url!r} was cut off after {done} of {expected} bytes: try again")
    return b"".join(parts)


def _too_large(name: str) -> str:
    return f"{name!r} has more than {MOST_BYTES >> 20} MiB: fetch or unpack it by hand"
