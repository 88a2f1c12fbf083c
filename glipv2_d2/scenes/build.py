"""Writes the whole data set to a folder, in parallel, once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..errors import DataError, UsageError
from ..files import whole_file
from .language_files import FILES, language_files
from .photos import EVAL_PHOTOS, TRAIN_PHOTOS, photo_path
from .records import SPLITS, detection_json, grounding_json, render_to_disk
from .transfer_files import TRANSFER_FILES, transfer_files

FORMAT = 2  # raise it whenever the same arguments give other pictures
DERIVED_FORMAT = 3  # the same for what follows from their boxes and captions
MANIFEST = "manifest.json"
_OWN_FOLDERS = ("train", "val", "novel", "annotations")


def build_scenes(
    output: str | os.PathLike,
    *,
    seed: int = 0,
    size: int = 192,
    train: int = 8000,
    val: int = 400,
    novel: int = 300,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Render the data set, unless the folder already holds exactly this one.

    A folder with the right pictures gets the files that it lacks of those that follow from them:
    questions, captions, and the parts of `transfer_files`.

    Args:
        output: the folder; made if absent.
        seed, size, train, val, novel: what to render (size in pixels, numbers of images); the
            result depends on these alone, not on the number of workers.
        workers: processes; default: the CPUs that this process may use, at most 8.
        progress: called with (images done, images in all).

    Returns:
        True if anything was written, False if all was there already.

    Raises:
        UsageError: bad arguments.
        DataError: a folder that cannot be written, or that holds something else.
        MissingPackageError: a background photograph is not installed.
    """
    counts = {"train": train, "val": val, "novel": novel}
    _check_arguments(counts, size, seed, workers)
    root = Path(output)
    arguments = {"seed": seed, "size": size, **counts}
    if is_complete(root, arguments):
        return False
    rendered = _is_rendered(root, arguments)
    if not rendered:
        for photo in TRAIN_PHOTOS + EVAL_PHOTOS:
            photo_path(*photo)
    if workers is None:
        workers = min(8, _usable_cpus())
    try:
        if not rendered:
            _prepare_folder(root, arguments)
            _render_all(root, counts, seed, size, workers, progress)
            _write_json(root / MANIFEST, _manifest(root, arguments))
        _write_derived(root, seed)
        _write_json(root / MANIFEST, _whole_manifest(root, arguments))
    except OSError as error:
        raise DataError(
            f"cannot write the scenes to {root}: {error.strerror or error}. Choose a folder with "
            "room that you may write to with --output, or set DETECTRON2_DATASETS"
        ) from error
    return True


def is_complete(root: Path, arguments: dict) -> bool:
    """Whether `root` holds a finished data set made with these arguments."""
    manifest = _read_manifest(root)
    if manifest is None or not manifest["complete"]:
        return False
    # Only now: the files are counted.
    return manifest == _whole_manifest(root, arguments)


def _is_rendered(root: Path, arguments: dict) -> bool:
    """Whether pictures, boxes and grounding captions are there, whatever else is missing."""
    manifest = _read_manifest(root)
    if manifest is None or not manifest["complete"]:
        return False
    for name in ("derived", "language"):  # until 0.2 "language"
        manifest.pop(name, None)
    return manifest == _manifest(root, arguments)


def _check_arguments(counts: dict, size: int, seed: int, workers: int | None) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"--{name} must be at least 1 image, got {count}")
    if size < 64:
        raise UsageError(f"--size must be at least 64 pixels, got {size}")
    if seed < 0:
        raise UsageError(f"--seed must not be negative, got {seed}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}")


def _render_all(root, counts, seed, size, workers, progress) -> None:
    """Write all pictures and annotation files; a split's annotations follow its pictures."""
    done, total = 0, sum(counts.values())
    for split, count in counts.items():
        scenes = []
        with _workers(workers) as run:
            job = partial(render_to_disk, split, seed=seed, size=size, root=str(root))
            for scene in run(job, range(count)):
                scenes.append(scene)
                done += 1
                if progress is not None:
                    progress(done, total)
        _write_json(root / "annotations" / f"{split}.json", detection_json(split, scenes, size))
        if SPLITS[split].captions:
            path = root / "annotations" / f"{split}_grounding.json"
            _write_json(path, grounding_json(split, scenes, size))


def _write_derived(root: Path, seed: int) -> None:
    """Write what follows from the boxes and captions of each split."""
    for split in SPLITS:
        folder = root / "annotations"
        detection = json.loads((folder / f"{split}.json").read_text("utf-8"))
        captions = folder / f"{split}_grounding.json"
        grounding = json.loads(captions.read_text("utf-8")) if captions.is_file() else None
        files = language_files(split, detection, seed) | transfer_files(split, detection, grounding)
        for name, content in files.items():
            _write_json(folder / f"{split}_{name}.json", content)


@contextmanager
def _workers(number: int) -> Iterator[Callable[..., Iterable[dict]]]:
    """`map`, in this process or in several; results come in order."""
    if number == 1:
        yield map
        return
    # Workers only draw, so forking is safe and spares each of them the import of the package.
    method = "fork" if sys.platform.startswith("linux") else "spawn"
    with ProcessPoolExecutor(number, multiprocessing.get_context(method)) as pool:
        yield partial(pool.map, chunksize=16)


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare_folder(root: Path, arguments: dict) -> None:
    """Empty our own sub-folders and mark the data set as begun."""
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()) and _read_manifest(root) is None:
        raise DataError(
            f"{root} is not empty and was not written by prepare_scenes.py (it has no readable "
            f"{MANIFEST}): choose another --output, or empty it"
        )
    _write_json(root / MANIFEST, {"format": FORMAT, "arguments": arguments, "complete": False})
    for name in _OWN_FOLDERS:
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()


def _lengths(root: Path, names: Iterable[str]) -> dict[str, int]:
    """The size in bytes of those annotation files that are there."""
    paths = {name: root / "annotations" / f"{name}.json" for name in names}
    sizes = {name: path.stat().st_size for name, path in paths.items() if path.is_file()}
    return {f"annotations/{name}.json": size for name, size in sorted(sizes.items())}


def _read_manifest(root: Path) -> dict | None:
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(manifest, dict) and {"format", "arguments", "complete"} <= manifest.keys()
    return manifest if ours else None


def _manifest(root: Path, arguments: dict) -> dict:
    """Of what is rendered: the pictures per split and the size of each annotation file."""
    files = {}
    for split in SPLITS:
        pictures = [entry.stat().st_size for entry in (root / split).glob("*.jpg")]
        files[split] = sum(1 for length in pictures if length > 0)
    files |= _lengths(root, [*SPLITS, *(f"{s}_grounding" for s in SPLITS if SPLITS[s].captions)])
    return {"format": FORMAT, "arguments": arguments, "complete": True, "files": files}


def _whole_manifest(root: Path, arguments: dict) -> dict:
    """Of all: also what follows from it."""
    names = [f"{split}_{name}" for split in SPLITS for name in FILES + TRANSFER_FILES[split]]
    derived = {"format": DERIVED_FORMAT, "files": _lengths(root, names)}
    return {**_manifest(root, arguments), "derived": derived}


def _write_json(path: Path, content: dict) -> None:
    with whole_file(path, "w") as file:
        file.write(json.dumps(content, separators=(",", ":")))
