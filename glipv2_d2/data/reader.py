"""What a data set is registered with: it reads records and tells a report what is wrong."""

from __future__ import annotations

import gc
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, overload

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import DataError
from .datasets.phrase_classes import number_phrases
from .report import Record, RecordError, Report, reported

Item = TypeVar("Item")


class LazySequence(Sequence[Item]):
    """Items that are made when they are asked for: a subclass has `__len__` and `item`."""

    def item(self, index: int) -> Item:
        """The item, 0 <= index < len(self)."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        numbers = range(len(self))[index]  # an IndexError beyond the end
        return self.item(numbers) if isinstance(numbers, int) else [self.item(i) for i in numbers]


class RecordIndex(LazySequence[Record]):
    """Records that are read when they are asked for, in whichever process asks.

    A subclass is what the reader of a format returns where a data set is too large for the memory:
    it keeps offsets and reads a record in `read`.

    Attributes:
        source: the file, for messages.
        has_captions: the records are captions with boxes, not detection records.
        report: takes what `records[index]` leaves out; None: nobody asks.
    """

    source = ""
    has_captions = True
    report: Report | None = None

    def item(self, index: int) -> Record:
        return self.read(index, self.report or Report())

    def read(self, index: int, report: Report) -> Record:
        """The record, 0 <= index < len(self).

        Args:
            index: its number.
            report: takes the annotations that are left out.

        Raises:
            RecordError: it cannot be used.
        """
        raise NotImplementedError

    def usable(self, report: Report, indices: Sequence[int] | None = None) -> Iterator[Record]:
        """The records that can be used, of these numbers or of all; the others are reported."""
        for index in range(len(self)) if indices is None else indices:
            try:
                record = self.read(index, report)
            except RecordError as error:
                report.unusable(error)
            else:
                yield record

    def __iter__(self) -> Iterator[Record]:
        with reported(self.source) as report:
            yield from self.usable(report)


class JoinedRecords(RecordIndex):
    """The records of several files in one row; those of a second file may have the same ids.

    Args:
        source: for messages, as a pattern of the files.
        parts: the records of each.
    """

    def __init__(self, source: str, parts: Sequence[Sequence[Record]]):
        self.source = source
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.has_captions = all(map(has_captions, parts))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, index: int, report: Report) -> Record:
        number = int(np.searchsorted(self.ends, index, side="right"))
        part = self.parts[number]
        index -= int(self.ends[number]) - len(part)
        record = part.read(index, report) if isinstance(part, RecordIndex) else part[index]
        return {**record, "image_id": f"{number}:{record['image_id']}"}


def of_several_files(load: Callable[..., Sequence[Record]]) -> Callable[..., Sequence[Record]]:
    """The reader of a format that takes a pattern of files, too: `"labels/*/pairs.yaml"`."""

    @wraps(load)
    def read(path: str, *args: Any, **options: Any) -> Sequence[Record]:
        if not glob.has_magic(path) or os.path.exists(path):
            return load(path, *args, **options)
        files = sorted(glob.glob(path))
        if not files:
            raise DataError(f"there is no annotation file {path!r}")
        return JoinedRecords(path, [load(file, *args, **options) for file in files])

    return read


def has_captions(records: Sequence[Record]) -> bool:
    """Whether the records of a data set, or the first of them, are texts: captions, questions, or
    captions to be written."""
    if isinstance(records, RecordIndex):
        return records.has_captions
    return len(records) > 0 and ("caption" in records[0] or "task" in records[0])


def evenly(count: int, most: int) -> range:
    """About so many numbers of 0 ... count - 1, evenly spread."""
    return range(0, count, max(count // most, 1))


class CaptionPool(LazySequence[tuple[str, str]]):
    """(file name, caption) of records, without a copy of the captions; empty ones where a record
    has no caption or cannot be used."""

    def __init__(self, records: Sequence[Record]):
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def item(self, index: int) -> tuple[str, str]:
        try:
            record = self.records[index]
        except RecordError:
            return "", ""
        return record["file_name"], record.get("caption", "")


@contextmanager
def collector_paused() -> Iterator[None]:
    """Read a data set without Python's cyclic garbage collector.

    Most of the time would be spent on looking for cycles among millions of dicts that have none.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class Reader:
    """Reads one data set, however often; what `DatasetCatalog` has under its name.

    Detectron2 and its programs call it through `DatasetCatalog.get`, which passes nothing; this
    package calls `read` with the report of the data set.

    Args:
        load: the reader of a format: takes `path, image_root, dataset_name`, the `report`
            and the options, the last two by name, and returns a list of records or a `RecordIndex`.
        path, image_root, dataset_name, options: its arguments.
    """

    def __init__(
        self,
        load: Callable[..., Sequence[Record]],
        path: str,
        image_root: str | Mapping[str, str],
        dataset_name: str,
        **options: Any,
    ):
        self.load = load
        self.path = path
        self.image_root = image_root
        self.dataset_name = dataset_name
        self.options = options

    def register(self, **metadata: Any) -> None:
        """Put it and the metadata into Detectron2's catalogs, unless the name is taken."""
        if self.dataset_name not in DatasetCatalog:
            DatasetCatalog.register(self.dataset_name, self)
            files = {"json_file": self.path, "image_root": self.image_root}
            MetadataCatalog.get(self.dataset_name).set(**files, **metadata)

    def read(self, report: Report, with_masks: bool = True) -> Sequence[Record]:
        """The records, not checked yet; what is left out of the file is in the report.

        `with_masks`: False: masks are not needed; a format that reads faster without leaves them
        out.
        """
        options = self.options
        if not with_masks and "with_masks" in signature(self.load).parameters:
            options = {**options, "with_masks": False}
        return self.load(self.path, self.image_root, self.dataset_name, report=report, **options)

    @collector_paused()
    def __call__(self) -> Sequence[Record]:
        """The records for Detectron2's programs: what is left out is logged, and the phrases of
        captions that are in memory have numbers, by which these programs draw them."""
        with reported(self.path) as report:
            records = self.read(report)
        if isinstance(records, list) and all("caption" in record for record in records):
            number_phrases(records, self.dataset_name)
        return records
