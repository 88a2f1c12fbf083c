"""`glip label` of questions: find boxes for a data set of them, and write MDETR's json."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from ..checkpoint.file_kinds import telling_file
from ..config import resolve_config
from ..data.datasets.mdetr import IMAGE_KEYS
from ..data.loading import load_records
from ..data.report import Record
from ..engine.predictor import GroundingPredictor
from ..errors import DataError, UsageError
from ..files import whole_file
from ..labeling.questions import ImageLabels, label_questions, most_given_answer, without_mask
from ..language.noun_phrases import noun_phrase_extractor
from ..language.prompt import MASK
from ..sources import stamp
from .detection.journal import Journal


def run(args: argparse.Namespace) -> int:
    """Label and write."""
    if args.output.suffix != ".json":
        raise UsageError(
            f"--output is a .json file for questions, got '{args.output}'; pairs need a --format"
        )
    if len(args.given) != 1:
        raise UsageError(f"one data set of questions is labeled, got {', '.join(args.given)}")
    (args.name,) = args.given
    args.threshold = 0.5 if args.threshold is None else args.threshold
    extractor = noun_phrase_extractor(args.phrases)
    images = _questions(args)
    predictor = GroundingPredictor.from_config(
        args.config_file,
        args.weights,
        device=args.device,
        batch_size=args.batch_size,
        score_threshold=args.threshold,
        overrides=args.overrides,
    )
    args.output.parent.mkdir(parents=True, exist_ok=True)
    settings = _settings(args, images)
    journal = Journal(args.output.with_suffix(".jsonl"), settings)
    if journal.other_settings:
        changed = ", ".join(journal.other_settings)
        print(f"{journal.path} is of a run with another {changed}: every image is done anew")
    done = {file: ImageLabels(**entry["image"]) for file, entry in journal.entries.items()}
    if done:
        print(f"{len(done)} of {len(images)} images are done already ({journal.path})")
    left = [file for file in images if file not in done]
    found = label_questions(predictor, [images[f] for f in left], extractor, args.threshold)
    with journal:
        for file, labels in zip(left, found):
            done[file] = labels
            error = next((text for text in labels.boxes if isinstance(text, str)), None)
            journal.add({"file": file, "image": labels._asdict(), "error": error})
            if error is not None:
                print(f"failed: {file}: {error}", file=sys.stderr, flush=True)
            if len(done) % 100 == 0 or len(done) == len(images):
                print(f"[{len(done)}/{len(images)}] images", flush=True)
    content = _mdetr_json(images, done, args.name)
    with whole_file(args.output, "w") as output:
        json.dump({"pseudo_labels": settings, **content}, output)
    return _summary(args.output, journal.path, content, sum(map(len, images.values())))


def _questions(args: argparse.Namespace) -> dict[str, list[Record]]:
    """The questions about each image, by its file.

    Raises:
        DataError: the data set is not there, or not one of questions with answers.
    """
    if args.register is not None:
        runpy.run_path(args.register)
    images: dict[str, list[Record]] = {}
    answered = 0
    for record in load_records(args.name):
        if record.get("task") != "question":
            raise DataError(
                f"data set {args.name!r} is not one of questions, which are what is labeled: image "
                f"{record['image_id']!r} has none"
            )
        answered += bool(most_given_answer(record))
        images.setdefault(record["file_name"], []).append(record)
    if not answered:
        raise DataError(
            f"no question of data set {args.name!r} has an answer, and boxes are found for both: "
            "take the part that is trained on"
        )
    return images


def _settings(args: argparse.Namespace, images: Mapping[str, list[Record]]) -> dict[str, Any]:
    """What the labels depend on, besides the images."""
    asked = [
        [record["image_id"], without_mask(record), most_given_answer(record)]
        for records in images.values()
        for record in records
    ]
    return {
        "dataset": args.name,
        "questions": hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        "phrases": args.phrases,
        "threshold": args.threshold,
        "config": [args.config_file, stamp(resolve_config(args.config_file))],
        "overrides": list(args.overrides),
        "weights": [args.weights, stamp(str(telling_file(args.weights)))],
    }


def _mdetr_json(
    images: Mapping[str, list[Record]], labels: Mapping[str, ImageLabels], name: str
) -> dict[str, list[Any]]:
    """The questions that could be labeled, with the boxes that were found."""
    root = MetadataCatalog.get(name).get("image_root", "")
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for file, records in images.items():
        of_image = labels[file]
        for record, boxes in zip(records, of_image.boxes):
            if isinstance(boxes, str):
                continue
            folder = root if isinstance(root, str) else root[record["data_source"]]
            entry = {
                "id": record["image_id"],
                "file_name": os.path.relpath(file, folder) if folder else file,
                "height": of_image.height,
                "width": of_image.width,
                "caption": f"{without_mask(record)} {MASK}",
            }
            entries.append(entry | {key: record[key] for key in IMAGE_KEYS if key in record})
            for box in boxes:
                number = {"id": len(annotations) + 1, "image_id": record["image_id"]}
                annotations.append({**number, **box})
    return {"images": entries, "annotations": annotations}


def _summary(output: Path, journal: Path, content: Mapping[str, list[Any]], asked: int) -> int:
    """Say how many questions got boxes; returns the exit status."""
    captions = {entry["id"]: entry["caption"] for entry in content["images"]}
    with_boxes, with_answer = set(), set()
    for box in content["annotations"]:
        with_boxes.add(box["image_id"])
        if any(end == len(captions[box["image_id"]]) for _, end in box["tokens_positive"]):
            with_answer.add(box["image_id"])
    print(
        f"{output}: {len(captions)} questions, {len(with_boxes)} with boxes "
        f"({len(content['annotations'])}), {len(with_answer)} with a box of the answer"
    )
    failed = asked - len(captions)
    if failed:
        print(
            f"{failed} of {asked} questions could not be labeled and are not in the file (the same "
            "command tries them again)",
            file=sys.stderr,
        )
        return 1
    journal.unlink()
    return 0
