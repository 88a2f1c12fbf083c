"""The user's data: read, looked at, split, and written as COCO json with what was left of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.structures import BoxMode

from ...data.build import relabel
from ...data.datasets.coco_writer import coco_writer
from ...data.images import image_file
from ...data.same_images import equal_images, same_images
from ...data.split import split_records
from ...data.survey import survey
from ...errors import DataError, PromptError
from ...language.class_names import detection_classes
from ...language.prompt_text import read_prompt
from ...language.tokenized import Tokenizer
from .pictures import draw_records

Record = dict[str, Any]

# Below it every image is trained on, and measured again.
LEAST_TO_SPLIT = 10
VAL_SHARE, MOST_VAL = 0.2, 500
MOST_NAMED = 10
SHEET_IMAGES = 12


class OwnData(NamedTuple):
    """What is trained on, and what it is measured on.

    Attributes:
        classes: their names, by class id.
        train, val: checked detection records.
        measured: in a sentence, what the validation is worth.
        notes: what was left out and why, and what is doubtful.
    """

    classes: list[str]
    train: list[Record]
    val: list[Record]
    measured: str
    notes: list[str]

    def box_sizes(self, record: Record) -> Iterator[tuple[float, float]]:
        """(width, height) of each box that is trained on."""
        for annotation in record["annotations"]:
            if not annotation.get("iscrowd", 0):
                box = list(annotation["bbox"])
                yield tuple(BoxMode.convert(box, annotation["bbox_mode"], BoxMode.XYWH_ABS)[2:])

    def boxes_by_class(self, part: str) -> Counter:
        """Boxes of each class in `"train"` or `"val"`."""
        return Counter(
            annotation["category_id"]
            for record in getattr(self, part)
            for annotation in record["annotations"]
            if not annotation.get("iscrowd", 0)
        )

    def least_images_of_a_class(self) -> int:
        """Training images of the class that has the fewest, of those that have any."""
        counts: Counter = Counter()
        for record in self.train:
            counts.update({a["category_id"] for a in record["annotations"]})
        return min(counts.values(), default=0)


def read_own_data(
    train: str,
    val: str | None,
    *,
    tokenizer: Tokenizer,
    seed: int,
    picture: Path,
    say: Callable[[str], None],
) -> OwnData:
    """Read and check the registered data sets, and split the first where there is no second.

    Args:
        train, val: registered names.
        tokenizer: of the base, for names that it does not know.
        seed: of the split.
        picture: where the contact sheet goes.
        say: takes the lines for people.

    Raises:
        DataError: nothing can be trained on, or the sets have different classes.
    """
    records, classes, notes = _looked_at(train, tokenizer, say)
    records, classes, without = _learnable(train, records, classes)
    notes += without
    if separated := [name for name in classes if not _is_read_as_one(name)]:
        told = ", ".join(map(repr, separated[:MOST_NAMED]))
        notes.append(
            f"{len(separated)} class names that a prompt of glip detect cannot hold, where commas "
            f"and full stops separate names: {told}; rename them, or ask for them in Python as a "
            "list of names"
        )
        say(f"warning: {notes[-1]}")
    draw_records(records, classes, SHEET_IMAGES, seed).save(picture)
    say(f"pictures: {picture}")
    if val is None:
        data = _split(records, classes, notes, seed)
    else:
        others, named, more = _looked_at(val, tokenizer, say)
        others = _in_vocabulary(val, others, named, classes)
        data = _apart(records, others, classes, [*notes, *more])
    say(f"{len(data.train)} images to train on, {len(data.val)} to validate on: {data.measured}")
    return data


def _is_read_as_one(name: str) -> bool:
    try:
        names = read_prompt(name, "classes")
    except PromptError:
        return False
    return isinstance(names, list) and len(names) == 1


def _looked_at(
    name: str, tokenizer: Tokenizer, say: Callable[[str], None]
) -> tuple[list[Record], list[str], list[str]]:
    """The usable records of a data set, its classes, and what is to be said of it."""
    found = survey(name, check_images=True, tokenizer=tokenizer)
    for line in found.lines():
        say(line)
    classes = detection_classes(name)
    if not classes:
        raise DataError(f"{name!r} is a data set of captions: glip finetune learns classes")
    problems = found.problems
    notes = [
        f"{count} x {kind}; the first: {first}" for kind, (count, first) in problems.kinds.items()
    ]
    return found.usable, list(classes), [*notes, *problems.warnings]


def _learnable(
    name: str, records: list[Record], classes: list[str]
) -> tuple[list[Record], list[str], list[str]]:
    """Without classes that have no box, as Roboflow adds one; and what is to be said of them."""
    used = _classes_of(records)
    if not used:
        raise DataError(f"no image of {name!r} has a box: there is nothing to learn")
    absent = [repr(text) for i, text in enumerate(classes) if i not in used]
    if not absent:
        return records, classes, []
    told = ", ".join(absent[:MOST_NAMED]) + ", ..." * (len(absent) > MOST_NAMED)
    numbers = {old: new for new, old in enumerate(sorted(used))}
    kept = [
        {**record, "annotations": [
            {**annotation, "category_id": numbers[annotation["category_id"]]}
            for annotation in record["annotations"] if annotation["category_id"] in numbers
        ]}
        for record in records
    ]  # fmt: skip
    learned = [classes[i] for i in numbers]
    return kept, learned, [f"{len(absent)} classes without a box: {told}"]


def _in_vocabulary(
    name: str, records: list[Record], found: Sequence[str], classes: Sequence[str]
) -> list[Record]:
    used = {found[a["category_id"]] for record in records for a in record["annotations"]}
    if strange := sorted(used - set(classes)):
        raise DataError(
            f"the validation set {name!r} has boxes of classes that the training set does not "
            f"have: {', '.join(map(repr, strange[:MOST_NAMED]))}; it has: "
            f"{', '.join(map(repr, classes[:MOST_NAMED]))}. Give both the same names"
        )
    return relabel(records, name, classes)


def _split(records: list[Record], classes: list[str], notes: list[str], seed: int) -> OwnData:
    groups = len(equal_images(records))
    if groups < LEAST_TO_SPLIT:
        measured = (
            f"with {groups} different image(s) none can be spared, so that it is measured on the "
            "training images: it tells that the model has learned them, and nothing about new ones"
        )
        return OwnData(classes, records, records, measured, notes)
    train, val = split_records(records, min(VAL_SHARE, MOST_VAL / len(records)), seed)
    measured = f"split off by image and class with seed {seed}"
    unseen = _classes_of(train) - _classes_of(val)
    if unseen:
        names = ", ".join(repr(classes[i]) for i in sorted(unseen)[:MOST_NAMED])
        measured += f"; {len(unseen)} classes have too few images to be measured: {names}"
    if len(val) < 10:
        measured += f"; an AP over {len(val)} image(s) says little"
    return OwnData(classes, train, val, measured, notes)


def _apart(train: list[Record], val: list[Record], classes: list[str], notes: list[str]) -> OwnData:
    """Without training images that the validation set has, too."""
    shared = dict(same_images(train, val))
    kept = [record for record in train if record["file_name"] not in shared]
    measured = "the validation set that was given"
    if shared:
        first = next(iter(shared))
        told = f"{len(shared)} training images are in the validation set, too (the first: {first})"
        if not kept:
            raise DataError(
                f"all {told}: leave out --val, or the export's own part to validate on, and a part "
                "of the training images is split off"
            )
        notes = [*notes, f"{told}: they are not trained on"]
    return OwnData(classes, kept, val, measured, notes)


def _classes_of(records: Sequence[Record]) -> set[int]:
    return {a["category_id"] for r in records for a in r["annotations"] if not a.get("iscrowd", 0)}


def write_records(path: Path, records: Sequence[Record], classes: Sequence[str]) -> None:
    """Write detection records as COCO json, with whole paths of the images.

    Images that are no files, as those in the json of labelme, become files beside it.
    """
    folder = path.resolve().with_suffix("")
    with coco_writer(path, classes) as writer:
        for record in records:
            image = os.path.abspath(image_file(record, folder))
            writer.add_record({**record, "file_name": image})
