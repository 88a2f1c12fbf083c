"""The web page's files, read once: no request names a file of the disk."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

__all__ = ["EXAMPLES", "PAGE"]

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class PageFile(NamedTuple):
    content: bytes
    media_type: str


def _read() -> dict[str, PageFile]:
    folder = files(__package__) / "static"
    page = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        path = "/" if file.name == "index.html" else f"/{file.name}"
        page[path] = PageFile(file.read_bytes(), _TYPES[file.name.rpartition(".")[2]])
    return page


# Address -> file; the pictures are images to try the shipped model with.
PAGE = _read()
EXAMPLES = tuple(path for path in PAGE if path.endswith(".jpg"))
