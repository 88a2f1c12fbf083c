"""Which images a command line means, and what their pictures are called."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import UsageError
from ...images import readable_suffixes

_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+://", re.IGNORECASE)


class Inputs(NamedTuple):
    """Images, each once and in order, and what lies in the folders besides."""

    files: list[str]
    skipped: list[str]


def is_address(text: str) -> bool:
    """Whether it is one for Detectron2's PathManager ("https://...") and not a path."""
    return _ADDRESS.match(text) is not None


def stamp(file: str) -> list[int] | None:
    """Size and time of change of a file, by which a changed one is known; None of an address."""
    if is_address(file):
        return None
    try:
        status = os.stat(file)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def find_images(given: Iterable[str]) -> Inputs:
    """The images that files, folders and addresses mean; a folder's are those that the reader of
    images reads, by their names.

    Raises:
        UsageError: nothing is there, or a folder holds no image.
    """
    files: list[str] = []
    skipped: list[str] = []
    for text in given:
        if is_address(text) or Path(text).is_file():
            files.append(text if is_address(text) else str(Path(text)))
        elif Path(text).is_dir():
            found, others = _of_folder(Path(text))
            files += found
            skipped += others
        else:
            raise UsageError(f"there is no image or folder '{text}'")
    return Inputs(list(dict.fromkeys(files)), list(dict.fromkeys(skipped)))


def _of_folder(folder: Path) -> tuple[list[str], list[str]]:
    suffixes = readable_suffixes()
    found: list[str] = []
    others: list[str] = []
    for path in sorted(folder.iterdir()):
        is_image = path.is_file() and path.suffix.lower() in suffixes
        (found if is_image else others).append(str(path) + os.sep * path.is_dir())
    if not found:
        raise UsageError(f"the folder '{folder}' holds no image ({', '.join(suffixes)})")
    return found, others


def picture_paths(
    files: Sequence[str], output: Path, given: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """A picture's name is its image's, as .jpg; no two images share one.

    Two images of one stem keep their suffix in it, and a number where that does not do, on file
    systems that ignore case too.

    Args:
        files: the images.
        output: folder of the pictures.
        given: names that images have already.

    Raises:
        UsageError: the pictures would go where the images are.
    """
    paths = {file: output / name for file, name in (given or {}).items()}
    taken = {path.name.casefold() for path in paths.values()}
    stems = Counter(_name(file).stem.casefold() for file in files)
    for file in files:
        if not is_address(file) and output.resolve() == Path(file).parent.resolve():
            raise UsageError(
                f"pictures in '{output}', where '{Path(file).name}' is, could overwrite images "
                "there: give another --output"
            )
        if file in paths:
            continue
        name = _name(file)
        stem = name.stem if stems[name.stem.casefold()] == 1 else name.name.replace(".", "_")
        picture, number = f"{stem}.jpg", 1
        while picture.casefold() in taken:
            number += 1
            picture = f"{stem}_{number}.jpg"
        taken.add(picture.casefold())
        paths[file] = output / picture
    return paths


def _name(file: str) -> Path:
    if not is_address(file):
        return Path(Path(file).name)
    return Path(Path(unquote(urlsplit(file).path)).name or "image")
