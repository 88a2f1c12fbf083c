"""Image after image: whatever goes wrong with one of them, the rest goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from detectron2.structures import Instances
from PIL import Image

from ...engine.asked import Negatives, PromptLike
from ...engine.predictor import GroundingPredictor
from ...errors import ConfigError, PromptError, UserError
from ...files import whole_file
from ...images import read_image
from ...interop.labels import detection_records
from .drawing import Line, draw
from .inputs import picture_paths
from .journal import Entry, Journal


class Found(NamedTuple):
    """What is found in an image.

    Attributes:
        instances: as the predictor gives them.
        fields: further fields of the image's record in the report.
        text: lines that stand below the picture.
    """

    instances: Instances
    fields: Mapping[str, Any] = {}
    text: Sequence[Line] = ()


Result = TypeVar("Result")
Ask = Callable[[list[np.ndarray]], list[Found]]


class Batch(NamedTuple):
    """The entries of a batch of images, and of all of `total` images so far, by file."""

    entries: list[Entry]
    so_far: Mapping[str, Entry]
    total: int


def detecting(
    predictor: GroundingPredictor,
    prompt: PromptLike,
    negatives: Negatives = (),
    tile: int | None = None,
) -> Ask:
    """Finds what a prompt names."""

    def ask(images: list[np.ndarray]) -> list[Found]:
        # Classes of all images: names and lists of names might be one prompt each.
        prompts = [prompt] * len(images) if isinstance(prompt, list) else prompt
        results = predictor(images, prompts, negatives=negatives, tile=tile)
        return [Found(found) for found in results]

    return ask


def tell_progress(batch: Batch) -> None:
    """Print how far it is."""
    entries = batch.so_far.values()
    print(
        f"[{len(entries)}/{batch.total}] "
        f"{sum(len(entry['detections']) for entry in entries)} detections, "
        f"{sum(entry['error'] is not None for entry in entries)} images failed",
        flush=True,
    )


def tell_field(name: str) -> Callable[[Batch], None]:
    """Prints a field of each image's record."""

    def tell(batch: Batch) -> None:
        for entry in batch.entries:
            if entry["image"] is not None:
                print(f"{entry['file']}: {entry['image'][name]}", flush=True)

    return tell


def process(
    ask: Ask,
    files: Sequence[str | Path],
    output: str | Path | None,
    *,
    batch_size: int,
    journal: Journal | None = None,
    tell: Callable[[Batch], None] = tell_progress,
) -> dict[str, list]:
    """Ask about images, write a picture of each, and collect the results.

    Whatever goes wrong with one image is reported and counted, and the rest goes on.

    Args:
        ask: what is found in some images.
        files: the images: files or addresses.
        output: folder for the pictures; created. None: no pictures. With a journal a file that is
            there is replaced only if it is a picture of a run with a journal of this name.
        batch_size: images that are asked about together.
        journal: entered; gets each result as it comes, and those that it has are not sought again.
        tell: called after each batch.

    Returns:
        The `images`, `detections` and `failed` of the report.

    Raises:
        UsageError: the pictures would go where the images are.
        ConfigError: the model has no head for what is asked.
        PromptError: the prompt cannot be used.
        OSError: the output folder or the journal cannot be written.
    """
    names = list(dict.fromkeys(str(file) for file in files))
    before = {} if journal is None else journal.entries
    entries = {name: before[name] for name in names if name in before}
    pictures = {}
    maker = "" if journal is None else f"glipv2_d2 {journal.path.stem}"
    if output is not None:
        given = {file: entry["image"]["picture"] for file, entry in before.items()}
        pictures = picture_paths(names, Path(output), given, partial(_is_free, maker=maker))
        Path(output).mkdir(parents=True, exist_ok=True)
    if journal is not None and entries:
        print(f"{len(entries)} of {len(names)} images are done already ({journal.path})")
    left = [name for name in names if name not in entries]
    for start in range(0, len(left), batch_size):
        batch = []
        for entry in _entries(ask, left[start : start + batch_size], pictures, maker):
            batch.append(entry)
            entries[entry["file"]] = entry
            if journal is not None:
                journal.add(entry)
            if entry["error"] is not None:
                print(f"failed: {entry['file']}: {entry['error']}", file=sys.stderr, flush=True)
        tell(Batch(batch, entries, len(names)))
    return _report(entries[name] for name in names)


def _entries(
    ask: Ask, files: Sequence[str], pictures: Mapping[str, Path], maker: str
) -> Iterator[Entry]:
    """The results of a batch, one for each file, in another order where some cannot be read."""
    batch = []
    for file in files:
        try:
            batch.append((file, read_image(file)))
        except Exception as error:  # of a hundred decoders
            yield _entry(file, error=one_line(error))
    for (file, pixels), (entry, found) in zip(batch, asked(ask, batch)):
        if found is not None and file in pictures:
            problem = _draw_into(pictures[file], pixels, found, maker)
            entry["image"]["picture"] = pictures[file].name if problem is None else None
            if problem is not None:
                entry["error"] = f"its picture cannot be written: {problem}"
        yield entry


def asked(
    ask: Ask, images: Sequence[tuple[str, np.ndarray]]
) -> Iterator[tuple[Entry, Found | None]]:
    """Of each image, with its name, the entry, and what is found; None where it failed."""
    results = each_or_why(ask, [pixels for _, pixels in images]) if images else []
    for (file, pixels), found in zip(images, results):
        if isinstance(found, str):
            yield _entry(file, error=found), None
            continue
        record = {
            "file": file,
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "picture": None,
            "detections": len(found.instances),
            **found.fields,
        }
        yield _entry(file, record, detection_records(file, found.instances)), found


def _entry(
    file: str, image: dict | None = None, detections: Sequence = (), error: str | None = None
) -> Entry:
    return {"file": file, "image": image, "detections": list(detections), "error": error}


def each_or_why(
    ask: Callable[[list[np.ndarray]], Sequence[Result]], images: list[np.ndarray]
) -> list[Result | str]:
    """What is asked of each image, or why it has failed: a batch that fails is tried again image by
    image."""
    try:
        return list(ask(images))
    except (ConfigError, PromptError):
        raise  # of no image
    except Exception as error:  # out of memory, an image that is one pixel high, ...
        if len(images) == 1:
            height, width = images[0].shape[:2]
            size = f" (the image has {width}x{height} pixels)"
            return [one_line(error) + ("" if isinstance(error, UserError) else size)]
    return [found for image in images for found in each_or_why(ask, [image])]


def _is_free(path: Path, maker: str) -> bool:
    """Whether there is no file, or a picture of an earlier run, which has its maker's comment."""
    if not maker or not path.is_file():
        return True
    try:
        with Image.open(path) as picture:
            return picture.info.get("comment") == maker.encode()
    except Exception:  # of a hundred decoders
        return False


def _draw_into(path: Path, pixels: np.ndarray, found: Found, maker: str) -> str | None:
    """Write the picture; what went wrong, if anything did."""
    try:
        picture = Image.fromarray(draw(pixels, found.instances, found.text))
        with whole_file(path) as file:
            picture.save(file, "JPEG", quality=92, comment=maker)
    except Exception as error:  # of fonts, of a full disk, of a side that JPEG does not allow
        return one_line(error)
    return None


def one_line(error: Exception) -> str:
    """One line for people."""
    lines = str(error).strip().splitlines()
    if isinstance(error, UserError | OSError) and lines:
        return lines[0]
    return ": ".join([type(error).__name__, *lines[:1]])


def _report(entries: Iterable[Entry]) -> dict[str, list]:
    report: dict[str, list] = {"images": [], "detections": [], "failed": []}
    for entry in entries:
        report["detections"] += entry["detections"]
        if entry["image"] is not None:
            report["images"].append(entry["image"])
        if entry["error"] is not None:
            report["failed"].append({"file": entry["file"], "error": entry["error"]})
    return report
