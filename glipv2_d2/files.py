"""Files that other processes and other people read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["give_usual_mode", "remove_leftovers", "whole_file"]


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
    file = tempfile.NamedTemporaryFile(
        mode, dir=folder or ".", prefix=f".{name}.", suffix=".tmp", delete=False
    )
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the new name may get to the disk before the content
        give_usual_mode(file.name)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


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
