"""Every record of a data set is read, checked and counted."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import DataError, printable
from ..language.class_names import class_labels, detection_classes, near_duplicates
from ..language.spans import phrase_key
from .images import record_image_problem
from .loading import checked_records, is_annotated, read_dataset
from .reader import RecordIndex
from .records import Records
from .report import Report

Record = dict[str, Any]

# COCO's sizes: the sides of squares of their largest areas.
_SIDES = {"small": 32, "medium": 96}


@dataclass
class DataSurvey:
    """What a data set holds.

    Attributes:
        name: of the data set.
        total: records in it; more than were looked at if there is a limit.
        usable: the checked records, those that were looked at.
        annotated: False for a test set without annotations, whose truth a server keeps.
        problems: what was left out.
        images: distinct image files.
        image_sizes: records by (height, width) of their image, where it is known.
        boxes, crowds: annotations that are trained on, and crowd boxes, which are not.
        boxes_per_record: one number for each record.
        box_sides: of each box the side of a square of its area, in pixels of the image.
        masks: boxes with a mask.
        captions: records with a caption, or a question.
        tasks: records of each task, of those that have one.
        answers: how often each answer is the best of a question.
        phrases: distinct sets of spans, over all captions.
        classes: boxes per class name, every class of the vocabulary.
        absent: classes verified to be absent, over all records; None if the set is not federated.
        too_long: captions with more tokens than the limit; None without a tokenizer.
        longest: tokens of the longest caption.
        unknown: words of captions and class names that the language model does not know, and how
            often they occur; none without a tokenizer.
    """

    name: str
    total: int = 0
    usable: list[Record] = field(default_factory=list)
    annotated: bool = True
    problems: Report = field(default_factory=Report)
    images: set[str] = field(default_factory=set)
    image_sizes: Counter = field(default_factory=Counter)
    boxes: int = 0
    crowds: int = 0
    boxes_per_record: list[int] = field(default_factory=list)
    box_sides: list[float] = field(default_factory=list)
    masks: int = 0
    captions: int = 0
    tasks: Counter = field(default_factory=Counter)
    answers: Counter = field(default_factory=Counter)
    phrases: int = 0
    classes: Counter = field(default_factory=Counter)
    absent: int | None = None
    too_long: int | None = None
    longest: int = 0
    unknown: Counter = field(default_factory=Counter)

    @property
    def near_duplicates(self) -> list[tuple[str, str]]:
        """Pairs of class names that are perhaps one class, see `near_duplicates`."""
        return near_duplicates(list(self.classes))

    @property
    def size_counts(self) -> dict[str, int]:
        """Boxes that are small, medium and large, by COCO's areas."""
        sides = np.array(self.box_sides)
        counts, _ = np.histogram(sides, [0, *_SIDES.values(), np.inf])
        return dict(zip((*_SIDES, "large"), counts.tolist()))

    def lines(self, most: int = 10) -> list[str]:
        """For people; at most `most` classes are named, and every kind of problem."""
        result = [f"{self.name}: {len(self.usable)} usable records of {self.total}"]
        if self.usable:
            result += self._counts(most)
        if self.problems.clipped:
            result.append(f"boxes clipped at the border of their image: {self.problems.clipped}")
        kinds = sorted(self.problems.kinds.items(), key=lambda item: -item[1][0])
        if not kinds and not self.problems.warnings:
            result.append("problems: none")
        result += [f"warning: {printable(text)}" for text in self.problems.warnings]
        for kind, (count, first) in kinds:
            result.append(f"problem: {count} x {kind}; the first: {first}")
        return result

    def _counts(self, most: int) -> list[str]:
        per = self.boxes_per_record
        result = [f"images: {len(self.images)}{self._told_image_sizes()}"]
        if not self.annotated:
            what = f", {len(self.classes)} classes" if self.classes else ""
            return [
                *result,
                f"no annotations{what}: a test set, for evaluation alone or into the file of its "
                "server; it cannot be trained on",
            ]
        result += [
            f"boxes: {self.boxes}, and {self.crowds} crowd boxes; per record {min(per)} to "
            f"{max(per)}, median {statistics.median(per):g}, {per.count(0)} records without",
        ]
        if self.box_sides:
            low, median, high = np.percentile(self.box_sides, (5, 50, 95))
            counts = ", ".join(f"{count} {name}" for name, count in self.size_counts.items())
            result.append(
                f"box sizes: {counts} (COCO's); the side of a square of their area is {low:.0f} to "
                f"{high:.0f} pixels (but for 5 % at both ends), median {median:.0f}; "
                f"{self.masks} boxes have a mask"
            )
        for task, count in self.tasks.items():
            result.append(f"records of the task {task!r}: {count}")
        if self.answers:
            common = ", ".join(f"{a!r} {count}" for a, count in self.answers.most_common(most))
            result.append(f"answers: {len(self.answers)}; most: {printable(common)}")
        if self.captions:
            result.append(f"captions: {self.captions} with {self.phrases} phrases")
        if self.too_long is not None and self.captions:
            result.append(
                f"tokens: the longest caption has {self.longest}; {self.too_long} captions are "
                "longer than the limit and are cut between two words in training"
            )
        if self.unknown:
            words = ", ".join(f"{word!r} {count}" for word, count in self.unknown.most_common(most))
            result.append(
                "warning: words that the language model does not know and cannot tell apart "
                f"(the token [UNK]): {len(self.unknown)}; most: {printable(words)}"
            )
        if self.classes:
            common = ", ".join(f"{name} {count}" for name, count in self.classes.most_common(most))
            empty = sum(count == 0 for count in self.classes.values())
            result.append(f"classes: {len(self.classes)}, {empty} without boxes; most: {common}")
        if pairs := self.near_duplicates:
            told = ", ".join(f"{a!r} and {b!r}" for a, b in pairs[:most])
            result.append(f"class names that are perhaps one class, {len(pairs)}: {told}")
        if self.absent is not None:
            result.append(f"federated: {self.absent} verified-absent classes over all records")
        return result

    def _told_image_sizes(self) -> str:
        if not self.image_sizes:
            return ""
        (height, width), count = self.image_sizes.most_common(1)[0]
        if len(self.image_sizes) == 1:
            return f", all of {width}x{height}"
        sides = [side for size in self.image_sizes for side in size]
        return (
            f", of {len(self.image_sizes)} sizes with sides of {min(sides)} to {max(sides)} "
            f"pixels, {count} of them {width}x{height}"
        )


def survey(
    name: str,
    *,
    max_records: int | None = None,
    check_images: bool = False,
    tokenizer: Any = None,
) -> DataSurvey:
    """Read and check a registered data set, and count what it holds.

    Args:
        name: in `DatasetCatalog`.
        max_records: look at so many only, evenly spread; None: all.
        check_images: read the header of each image and compare its size with the record's.
        tokenizer: a `PromptTokenizer`: count the
            captions that are too long, and the words that the language model does not know.

    Raises:
        DataError: the data set is unknown, cannot be read at all, or nothing of it is usable.
    """
    report = Report(f"data set {name!r}")
    records, total = _records(name, max_records, report)
    if check_images:
        records = list(_with_images(records, report))
    report.log()
    result = DataSurvey(name, total, records, problems=report)
    names = class_labels(MetadataCatalog.get(name)) if detection_classes(name) else ()
    result.classes.update(dict.fromkeys(names, 0))
    result.annotated = any(map(is_annotated, records))
    if tokenizer is not None:
        result.unknown = Counter(word for name in names for word in tokenizer.unknown_words(name))
    for record in records:
        _count(record, names, result, tokenizer)
    if result.annotated and not (result.boxes or result.absent or result.tasks):
        report.warn(f"none of {len(records)} records has a box: alone they cannot be trained on")
    if not records:
        reason = (
            f"nothing of it can be used: {report.summary()}"
            if report.kinds
            else "it has no records"
        )
        raise DataError(f"data set {name!r}: {reason}")
    return result


def _records(name: str, most: int | None, report: Report) -> tuple[list[Record], int]:
    """(usable records, how many there are)."""
    found = read_dataset(name, report)
    if isinstance(found, RecordIndex):
        chosen = _spread(len(found), most)
        return list(Records(found, name, report).usable(report, chosen)), len(found)
    records = checked_records(name, found, report, check_files=True)
    total = len(records) + report.records
    return [records[i] for i in _spread(len(records), most)], total


def _spread(count: int, most: int | None) -> Sequence[int]:
    if most is None or most >= count:
        return range(count)
    return [index * count // most for index in range(most)]


def _with_images(records: Sequence[Record], report: Report) -> Iterator[Record]:
    for record in records:
        if problem := record_image_problem(record):
            report.record(problem[0], f"image {record.get('image_id')!r}", problem[1])
        else:
            yield record


def _count(record: Record, names: Sequence[str], result: DataSurvey, tokenizer: Any) -> None:
    single = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
    result.images.add(record["file_name"])
    result.boxes += len(single)
    result.crowds += len(record.get("annotations", ())) - len(single)
    result.boxes_per_record.append(len(single))
    if "height" in record:
        result.image_sizes[record["height"], record["width"]] += 1
    for annotation in single:
        x0, y0, x1, y1 = BoxMode.convert(
            list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS
        )
        result.box_sides.append(math.sqrt((x1 - x0) * (y1 - y0)))
        result.masks += bool(annotation.get("segmentation"))
    if "task" in record:
        result.tasks[record["task"]] += 1
    if answers := record.get("answers"):
        result.answers[max(answers, key=answers.__getitem__)] += 1
    if "neg_category_ids" in record:
        result.absent = (result.absent or 0) + len(record["neg_category_ids"])
    if "caption" not in record:
        result.classes.update(names[a["category_id"]] for a in single if names)
        return
    result.captions += 1
    result.phrases += len({phrase_key(a["spans"]) for a in single})
    if tokenizer is not None:
        tokens = tokenizer.num_tokens(record["caption"])
        result.longest = max(result.longest, tokens)
        result.unknown.update(tokenizer.unknown_words(record["caption"]))
        result.too_long = (result.too_long or 0) + (tokens > tokenizer.max_tokens)
