"""Detect in image after image: whatever goes wrong with one of them, the rest goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as coco_mask

from ...engine.predictor import GroundingPredictor
from ...errors import PromptError, UserError
from ...files import whole_file
from ...images import read_image
from ...language.prompt import Prompt
from .drawing import draw
from .inputs import picture_paths
from .journal import Entry, Journal


def detect(
    predictor: GroundingPredictor,
    files: Sequence[str | Path],
    prompt: list[str] | Prompt,
    output: str | Path,
    journal: Journal | None = None,
) -> dict[str, list]:
    """Detect in images, write a picture for each, and collect the results.

    Whatever goes wrong with one image is reported and counted, and the rest goes on.

    Args:
        predictor: the model, with its batch size and threshold.
        files: the images: files or addresses.
        prompt: class names or a Prompt.
        output: folder for the pictures; created.
        journal: entered; gets each result as it comes, and those that it has are not sought again.

    Returns:
        The `images`, `detections` and `failed` of detections.json.

    Raises:
        UsageError: the pictures would go where the images are.
        PromptError: the prompt cannot be used.
        OSError: the output folder or the journal cannot be written.
    """
    output = Path(output)
    names = list(dict.fromkeys(str(file) for file in files))
    before = {} if journal is None else journal.entries
    entries = {name: before[name] for name in names if name in before}
    given = {file: entry["image"]["picture"] for file, entry in before.items()}
    pictures = picture_paths(names, output, given)
    output.mkdir(parents=True, exist_ok=True)
    if journal is not None and entries:
        print(f"{len(entries)} of {len(names)} images are done already ({journal.path})")
    left = [name for name in names if name not in entries]
    for start in range(0, len(left), predictor.batch_size):
        batch = left[start : start + predictor.batch_size]
        for entry in _entries(predictor, batch, prompt, pictures):
            entries[entry["file"]] = entry
            if journal is not None:
                journal.add(entry)
            if entry["error"] is not None:
                print(f"failed: {entry['file']}: {entry['error']}", file=sys.stderr, flush=True)
        print(
            f"[{len(entries)}/{len(names)}] "
            f"{sum(len(entry['detections']) for entry in entries.values())} detections, "
            f"{sum(entry['error'] is not None for entry in entries.values())} images failed",
            flush=True,
        )
    return _report(entries[name] for name in names)


def _entries(
    predictor: GroundingPredictor,
    files: Sequence[str],
    prompt: list[str] | Prompt,
    pictures: dict[str, Path],
) -> Iterator[Entry]:
    """The results of a batch, one for each file, in another order where some cannot be read."""
    batch = []
    for file in files:
        try:
            batch.append((file, read_image(file)))
        except Exception as error:  # of a hundred decoders
            yield _entry(file, error=_message(error))
    found = _found(predictor, [pixels for _, pixels in batch], prompt) if batch else []
    for (file, pixels), instances in zip(batch, found):
        if isinstance(instances, str):
            yield _entry(file, error=instances)
            continue
        record = {
            "file": file,
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "picture": pictures[file].name,
            "detections": len(instances),
        }
        problem = _draw_into(pictures[file], pixels, instances)
        if problem is not None:
            record["picture"], problem = None, f"its picture cannot be written: {problem}"
        yield _entry(file, record, _records(file, instances), problem)


def _entry(
    file: str, image: dict | None = None, detections: Sequence = (), error: str | None = None
) -> Entry:
    return {"file": file, "image": image, "detections": list(detections), "error": error}


def _found(
    predictor: GroundingPredictor, images: list[np.ndarray], prompt: list[str] | Prompt
) -> list[Instances | str]:
    """What is found in each image, or why nothing could be sought: a batch that fails is tried
    again image by image."""
    try:
        return predictor(images, prompt)
    except PromptError:
        raise  # of no image
    except Exception as error:  # out of memory, an image that is one pixel high, ...
        if len(images) == 1:
            height, width = images[0].shape[:2]
            size = f" (the image has {width}x{height} pixels)"
            return [_message(error) + ("" if isinstance(error, UserError) else size)]
    return [found for image in images for found in _found(predictor, [image], prompt)]


def _draw_into(path: Path, pixels: np.ndarray, instances: Instances) -> str | None:
    """Write the picture; what went wrong, if anything did."""
    try:
        picture = Image.fromarray(draw(pixels, instances))
        with whole_file(path) as file:
            picture.save(file, "JPEG", quality=92)
    except Exception as error:  # of fonts, of a full disk, of a side that JPEG does not allow
        return _message(error)
    return None


def _message(error: Exception) -> str:
    """One line for people."""
    lines = str(error).strip().splitlines()
    if isinstance(error, UserError | OSError) and lines:
        return lines[0]
    return ": ".join([type(error).__name__, *lines[:1]])


def _records(file: str, instances: Instances) -> list[dict]:
    masks = instances.pred_masks.numpy() if instances.has("pred_masks") else None
    records = []
    for i, box in enumerate(instances.pred_boxes.tensor.tolist()):
        record = {
            "file": file,
            "phrase": instances.pred_phrases[i],
            "class_id": int(instances.pred_classes[i]),
            "score": round(float(instances.scores[i]), 4),
            "box": [round(value, 2) for value in box],
        }
        if masks is not None:
            code = coco_mask.encode(np.asfortranarray(masks[i].astype(np.uint8)))
            record["mask"] = {"size": list(code["size"]), "counts": code["counts"].decode()}
        records.append(record)
    return records


def _report(entries: Iterable[Entry]) -> dict[str, list]:
    report: dict[str, list] = {"images": [], "detections": [], "failed": []}
    for entry in entries:
        report["detections"] += entry["detections"]
        if entry["image"] is not None:
            report["images"].append(entry["image"])
        if entry["error"] is not None:
            report["failed"].append({"file": entry["file"], "error": entry["error"]})
    return report
