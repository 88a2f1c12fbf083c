"""Which images and videos a command line means, and what their pictures are called."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import UsageError
from ...images import readable_suffixes
from ...sources import ARCHIVES, archive_members, is_address, is_member
from ...video import is_camera, is_video


class Inputs(NamedTuple):
    """Images, each once and in order; what lies beside them in folders and archives; and videos."""

    files: list[str]
    skipped: list[str]
    videos: Sequence[str] = ()


def is_input(text: str) -> bool:
    """Whether it means images or a video, and is no `key=value`."""
    return _is_there(text) or bool(_fitting(text))


def find_images(given: Iterable[str], output: str | Path | None = None) -> Inputs:
    """The images and videos that files, folders, patterns, archives and addresses mean.

    A folder's images are those that the reader of images reads, by their names, also of the folders
    in it; an archive's are, too.

    Args:
        given: of a command line.
        output: folder of the command's own pictures, of which no image is taken.

    Raises:
        UsageError: nothing is there, or a folder or an archive holds no image.
        ImageReadError: an archive is damaged.
    """
    files: list[str] = []
    skipped: list[str] = []
    videos: list[str] = []
    for text in _expanded(given):
        if is_video(text):
            videos.append(text)
        elif os.path.isdir(text):
            found, others = _of_folder(Path(text), output)
            files += found
            skipped += others
        elif os.path.isfile(text) and text.lower().endswith(ARCHIVES):
            found, others = _of_archive(str(Path(text)))
            files += found
            skipped += others
        else:
            files.append(text if is_address(text) else str(Path(text)))
    unique = (list(dict.fromkeys(names)) for names in (files, skipped, videos))
    return Inputs(*unique)


def _is_there(text: str) -> bool:
    return os.path.exists(text) or is_address(text) or is_camera(text) or is_member(text)


def _fitting(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []


def _expanded(given: Iterable[str]) -> Iterator[str]:
    """What is there under the names that are given; a pattern stands for what fits it."""
    for text in given:
        found = [text] if _is_there(text) else _fitting(text)
        if not found:
            fits = ": nothing fits the pattern" if glob.has_magic(text) else ""
            raise UsageError(f"there is no image or folder '{text}'{fits}")
        yield from found


def _of_folder(folder: Path, output: str | Path | None) -> tuple[list[str], list[str]]:
    """The images below a folder, and the files and hidden or linked folders that are none."""
    suffixes = readable_suffixes()
    found: list[str] = []
    others: list[str] = []
    own = None if output is None else Path(output).resolve()
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        left = [n for n in folders if n.startswith(".") or (here / n).is_symlink()]
        left += [n for n in folders if n not in left and (here / n).resolve() == own]
        folders[:] = sorted(set(folders) - set(left))
        others += [str(here / name) + os.sep for name in sorted(left)]
        for name in sorted(files):
            is_image = not name.startswith(".") and name.lower().endswith(suffixes)
            (found if is_image else others).append(str(here / name))
    if not found:
        raise UsageError(f"the folder '{folder}' holds no image ({', '.join(suffixes)})")
    return found, others


def _of_archive(path: str) -> tuple[list[str], list[str]]:
    """The images in an archive, and how many members of each kind are none."""
    suffixes = readable_suffixes()
    found: list[str] = []
    others: Counter[str] = Counter()
    for member in archive_members(path):
        base = os.path.basename(member)
        if not base.startswith(".") and base.lower().endswith(suffixes):
            found.append(f"{path}!{member}")
        else:
            others[f"{path}!*{os.path.splitext(base)[1]}"] += 1
    if not found:
        raise UsageError(f"the archive '{path}' holds no image ({', '.join(suffixes)})")
    return found, [f"{kind} ({count})" for kind, count in others.items()]


def picture_paths(
    files: Sequence[str],
    output: Path,
    given: Mapping[str, str] | None = None,
    is_free: Callable[[Path], bool] = lambda path: True,
) -> dict[str, Path]:
    """A picture's name is its image's, as .jpg; no two images share one.

    Two images of one stem keep their suffix in it, and a number where that does not do, on file
    systems that ignore case too.

    Args:
        files: the images, and videos, whose pictures are .mp4.
        output: folder of the pictures.
        given: names that images have already.
        is_free: whether a picture may be written to a path.

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
        suffix = ".mp4" if is_video(file) else ".jpg"
        picture, number = stem + suffix, 1
        while picture.casefold() in taken or not is_free(output / picture):
            number += 1
            picture = f"{stem}_{number}{suffix}"
        taken.add(picture.casefold())
        paths[file] = output / picture
    return paths


def _name(file: str) -> Path:
    if is_address(file):
        return Path(Path(unquote(urlsplit(file).path)).name or "image")
    return Path(re.sub(r"[!:]", "_", Path(file).name))
