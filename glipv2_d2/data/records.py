"""The records of a data set that is trained on, wherever they are kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set

from ..errors import DataError
from ..language.class_names import detection_classes
from .checks import check_record
from .datasets.refexp import record_image_key
from .reader import Record, RecordIndex, evenly, has_captions
from .report import WITHOUT_MASK, RecordError, Report

# So many records, evenly spread, are looked at for masks before the training begins.
LOOKED_AT = 1000


class Records(RecordIndex):
    """The records of one data set: serialized ones, checked already, or those of an index, which
    are checked when they are read.

    With masks to train on, every box has a mask. The boxes without count as crowds: they are not
    trained on, and what is in them is not called absent from the image either. The boxes of
    questions and captions need none: where they have no mask at all, they train the rest of the
    model.

    Args:
        records: what is read.
        name: of the data set; goes into the records.
        report: takes what is left out of a record that is read; it has the running counts
            `LEFT_OUT` and, with masks, `WITHOUT_MASK`.
        excluded: of an index, the images that are left out, by `record_image_key`.
        with_masks: boxes without a mask become crowds, see above.
        teaches: some record has a box, classes that are verified to be absent, or a task.

    Attributes:
        task: of the first record; None: it has none.

    Raises:
        DataError: masks are asked for, and no annotation that was looked at has one, but for
            questions and captions.
    """

    def __init__(
        self,
        records: Sequence[Record],
        name: str,
        report: Report,
        *,
        excluded: Set[str] = frozenset(),
        with_masks: bool = False,
        teaches: bool = True,
    ):
        self.records = records
        self.name = name
        self.report = report
        self.excluded = excluded
        self.teaches = teaches
        self.num_classes = num_classes(name)
        self.source = records.source if isinstance(records, RecordIndex) else f"data set {name!r}"
        self.has_captions = has_captions(records)
        # What is read by offset has captions to be grounded.
        self.task = None if isinstance(records, RecordIndex) else records[0].get("task")
        self.with_masks = False  # while they are looked at
        self.with_masks = with_masks and self._has_masks()

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: int, report: Report) -> Record:
        """The record without its invalid annotations; see `RecordIndex`."""
        if isinstance(self.records, RecordIndex):
            record = self._checked(self.records.read(index, report), report)
        else:
            record = self.records[index]
        lacking = sum(map(_lacks_mask, record.get("annotations", ()))) if self.with_masks else 0
        if not lacking:
            return record
        report.count(WITHOUT_MASK, lacking, str(record["file_name"]))
        annotations = [{**a, "iscrowd": 1} if _lacks_mask(a) else a for a in record["annotations"]]
        return {**record, "annotations": annotations}

    def _checked(self, record: Record, report: Report) -> Record:
        where = f"{self.source} ({self.name})"
        if self.excluded and record_image_key(record) in self.excluded:
            place = f"{where}: image {record['image_id']!r}"
            raise RecordError("excluded image", place, "its image is excluded", fault=False)
        checked = check_record(record, where, report, num_classes=self.num_classes)
        return {**checked, "dataset_name": self.name}

    def _has_masks(self) -> bool:
        """Whether there are masks to train on; that there are none is refused, or told."""
        looked_at = evenly(len(self), LOOKED_AT)
        records = self.usable(Report(), looked_at)  # the others count when they are trained on
        annotations = [a for record in records for a in record.get("annotations", ())]
        boxes = sum(not a.get("iscrowd", 0) for a in annotations)
        lacking = sum(map(_lacks_mask, annotations))
        if boxes and lacking == boxes:
            if self.task is not None:
                text = "data set %r: the boxes of its %ss have no masks and train all but these"
                logging.getLogger(__name__).info(text, self.name, self.task)
                return False
            raise DataError(
                f"data set {self.name!r}: masks are to be trained on (use_masks=True), but none of "
                f"{boxes} annotations that were looked at has a segmentation: take the data set "
                "out of dataloader.train.datasets, or set dataloader.train.mapper.use_masks=False"
            )
        if lacking:
            text = "data set %r: %d of %d annotations that were looked at have no segmentation"
            logging.getLogger(__name__).warning(text, self.name, lacking, boxes)
        return True


def num_classes(name: str) -> int | None:
    """How many classes a detection data set has; None of captions, or where it is unknown."""
    names = detection_classes(name)
    return None if names is None else len(names)


def _lacks_mask(annotation: Record) -> bool:
    return not annotation.get("iscrowd", 0) and not annotation.get("segmentation")
