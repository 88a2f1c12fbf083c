"""Files that other processes and other people read."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["give_usual_mode", "remove_leftovers", "whole_file", "whole_folder"]


@contextmanager
def whole_file(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file that is there as a whole or not at all, whatever happens meanwhile.

    Another process, a kill and a power failure find the old file or the new one. A kill leaves the
    unfinished one beside it, see `remove_leftovers`.

    Args:
        path: a file that is there is replaced in the end.
        mode: "wb" or "w".

    Raises:
        OSError: the folder cannot be written, or is full; nothing is left behind.
    """
    folder, name = os.path.split(path)
    try:
        file = tempfile.NamedTemporaryFile(
            mode, dir=folder or ".", prefix=f".{name}.", suffix=".tmp", delete=False
        )
    except OSError as error:
        raise _about(path, error) from error
    try:
        with _named_if_full(path), file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the new name may get to the disk before the content
        give_usual_mode(file.name)
        try:
            os.replace(file.name, path)
        except OSError as error:
            raise _about(path, error) from error
    except BaseException:
        os.unlink(file.name)
        raise


def _about(path: str | Path, error: OSError) -> OSError:
    """The error with the name that its reader knows, in place of that of the file aside."""
    return OSError(error.errno, error.strerror, os.fspath(path))


@contextmanager
def _named_if_full(path: str | Path) -> Iterator[None]:
    """What is written in the body is `path`: a full disk is told with it, which says which one."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            raise _about(path, error) from error
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder whose files are there all together or not at all, whatever happens meanwhile.

    The folder that is yielded is empty. One at `path` is replaced in the end. A kill leaves an
    unfinished one, which the next that is made for `path` removes; only one process makes it.

    Raises:
        OSError: the folder above cannot be written, or is full; nothing is left behind.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        shutil.rmtree(leftover)
    outer = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    aside = outer / path.name
    try:
        aside.mkdir()
        with _named_if_full(path):
            yield aside
        for file in (outer, aside, *aside.rglob("*")):  # as in `whole_file`
            _to_disk(file)
        if path.exists():
            os.rename(path, outer / "old")
        os.rename(aside, path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(outer)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: str | Path) -> list[str]:
    """Remove what `whole_file` left unfinished in a folder when it was killed.

    Only for a folder that nobody else writes into.

    Returns:
        The names of the files that were removed.
    """
    leftovers = list(Path(folder).glob(".*.????????.tmp"))
    for path in leftovers:
        path.unlink()
    return [path.name for path in leftovers]


def give_usual_mode(path: str | Path) -> None:
    """The permissions that `open` would have given: temporary files are their owner's alone.

    So are those of safetensors from 0.8 on, and then a colleague cannot read the weights.
    """
    mask = os.umask(0)
    os.umask(mask)
    with suppress(OSError):  # a file system without permissions
        os.chmod(path, 0o666 & ~mask)
