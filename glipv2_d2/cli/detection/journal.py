"""What a command has found in images so far, in a file that outlives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from ...errors import UsageError
from ...files import whole_file
from ...sources import stamp

Entry = dict[str, Any]


class Journal:
    """One line of json per image, written as they come; a later run with equal settings goes on.

    The first line has the settings of the run. An entry is kept for a later run if nothing failed,
    its image has not changed since, and its picture, if it has one, is there. A last line that was
    not written to its end is left out.

        with Journal(output / "detections.jsonl", settings) as journal:
            ...  # journal.entries has those of the run before
            journal.add(entry)

    Args:
        path: of the file; its folder holds the pictures.
        settings: whatever the results depend on besides the image; json's types only.

    Attributes:
        entries: file -> entry, of the run before.
        other_settings: names of the settings in which the run before differs; its entries are
            not taken.

    Raises:
        UsageError: the file is there and is no journal.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.settings = settings
        self.other_settings: list[str] = []
        self.entries: dict[str, Entry] = {}
        lines = list(_whole_lines(path))
        if path.is_file() and not (lines and isinstance(lines[0], dict) and "settings" in lines[0]):
            raise UsageError(
                f"'{path}' is in the place of what is found, and of another program: give another "
                "--output, or move it away"
            )
        if lines[1:]:
            before = lines[0]["settings"]
            keys = {**before, **settings}
            self.other_settings = [k for k in keys if before.get(k) != settings.get(k)]
        if not self.other_settings:
            self.entries = {line["file"]: line for line in lines[1:] if self._is_valid(line)}

    def _is_valid(self, entry: Entry) -> bool:
        if entry["error"] is not None or entry["stamp"] != stamp(entry["file"]):
            return False
        picture = entry["image"].get("picture")
        return picture is None or (self.path.parent / picture).is_file()

    def __enter__(self) -> Journal:
        with whole_file(self.path, "w") as file:
            for line in ({"settings": self.settings}, *self.entries.values()):
                file.write(json.dumps(line) + "\n")
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Write an entry; it survives when this process is killed."""
        line = json.dumps({**entry, "stamp": stamp(entry["file"])})
        self._file.write(line + "\n")
        self._file.flush()


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:  # the process was killed while it wrote
                return
