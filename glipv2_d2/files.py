"""Files that other processes and other people read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["give_usual_mode", "whole_file"]


@contextmanager
def whole_file(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file that is there as a whole or not at all, whatever other processes do meanwhile.

    Args:
        path: a file that is there is replaced in the end.
        mode: "wb" or "w".

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    folder = os.path.dirname(path) or "."
    file = tempfile.NamedTemporaryFile(mode, dir=folder, delete=False)
    try:
        with file:
            yield file
        give_usual_mode(file.name)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


def give_usual_mode(path: str | Path) -> None:
    """The permissions that ``open`` would have given: temporary files are their owner's alone.

    So are those of safetensors from 0.8 on, and then a colleague cannot read the weights.
    """
    mask = os.umask(0)
    os.umask(mask)
    with suppress(OSError):  # a file system without permissions
        os.chmod(path, 0o666 & ~mask)
