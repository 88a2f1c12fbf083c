"""`safetensors:FILE`: a .safetensors file where a program of Detectron2 wants a .pth.

Its checkpointers take whatever `PathManager` finds, and read it with `torch.load`. So a handler
for this prefix, as Detectron2 has one for `detectron2://`, finds a copy in that format. (Without
the two slashes: those before an absolute path are lost where Detectron2's head takes a URL apart.)
"""

import hashlib
from pathlib import Path
from typing import IO, Any

import torch
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir

from ..errors import CheckpointError
from ..files import whole_file
from .reading import read_checkpoint

__all__ = ["PREFIX", "SafetensorsHandler", "plain_path"]

PREFIX = "safetensors:"


def plain_path(path: str | Path) -> str:
    """The file that a path with or without `PREFIX` means; our own readers take both."""
    return str(path).removeprefix(PREFIX)


class SafetensorsHandler(PathHandler):
    """Finds `safetensors:FILE` as a .pth file in iopath's cache, made when it is first asked for.

    The copy belongs to one state of the file: when that changes, another one is made.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **_: Any) -> str:
        """The path of the copy.

        Raises:
            CheckpointError: there is no such file, or it holds no weights.
        """
        source = Path(plain_path(path)).resolve()
        if not source.is_file():
            raise CheckpointError(f"there is no checkpoint '{source}'")
        state = source.stat()
        known = f"{source} {state.st_size} {state.st_mtime_ns}"
        folder = Path(get_cache_dir()) / "safetensors"
        copy = folder / f"{source.stem}_{hashlib.sha256(known.encode()).hexdigest()[:16]}.pth"
        if force or not copy.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(copy) as file:
                torch.save({"model": read_checkpoint(source)["model"]}, file)
        return str(copy)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **_: Any) -> IO:
        return open(self._get_local_path(path), mode, buffering)

    def _exists(self, path: str, **_: Any) -> bool:
        return Path(plain_path(path)).is_file()

    _isfile = _exists


PathManager.register_handler(SafetensorsHandler(), allow_override=True)
