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


# Address -> file.
PAGE = _read()
# Images to try the shipped model with, and what to look for in them.
EXAMPLES = {
    "/example-1.jpg": "blue circle, blue square",
    "/example-2.jpg": "yellow star, yellow cross, yellow ring, green star",
    "/example-3.jpg": "blue heart, blue star, blue circle, green star",
    "/example-4.jpg": "green cross, green heart, pink star, red triangle, yellow heart",
}
