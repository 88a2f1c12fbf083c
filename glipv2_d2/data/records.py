"""Where the records of a training run are kept: serialized, or read when they are asked for."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Any

from .checks import check_record
from .datasets.refexp import record_image_key
from .problems import ProblemLog, RecordError, problem_log

Record = dict[str, Any]


class LazyRecords(Sequence):
    """Records of a data set that is too large for the memory.

    A subclass keeps an index of offsets and reads a record in `read`, in whichever process
    asks for it.

    Attributes:
        source: the file, for messages.
        has_captions: the records are captions with boxes, not detection records.
    """

    source = ""
    has_captions = True

    def read(self, index: int, log: ProblemLog) -> Record:
        """The record, 0 <= index < len(self).

        Args:
            index: its number.
            log: takes the annotations that are left out.

        Raises:
            RecordError: it cannot be used.
        """
        raise NotImplementedError

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.source} has {len(self)} records, there is no {index}")
        return self.read(index % len(self), ProblemLog())

    def __iter__(self) -> Iterator[Record]:
        """The usable records; the others are counted and reported in the end."""
        with problem_log(self.source) as log:
            for index in range(len(self)):
                try:
                    record = self.read(index, log)
                except RecordError as error:
                    log.unusable(error)
                    continue
                yield record


class CheckedRecords(Sequence):
    """Lazy records that are checked when they are read."""

    def __init__(
        self,
        records: LazyRecords,
        dataset_name: str,
        num_classes: int | None,
        log: ProblemLog,
        excluded: Collection[str] = (),
    ):
        """
        Args:
            records: what is read.
            dataset_name: goes into the records.
            num_classes: see `check_records`.
            log: takes the annotations that are left out; in mode `"raise"` they stop.
            excluded: images that are left out, by
                `record_image_key`.
        """
        self.records = records
        self.excluded = excluded
        self.dataset_name = dataset_name
        self.num_classes = num_classes
        self.log = log
        self.has_captions = records.has_captions

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        """The record without its invalid annotations.

        Raises:
            RecordError: it cannot be used.
        """
        where = f"{self.records.source} ({self.dataset_name})"
        found = self.records.read(index, self.log)
        if self.excluded and record_image_key(found) in self.excluded:
            place = f"{where}: image {found['image_id']!r}"
            raise RecordError("excluded image", place, "its image is excluded", fault=False)
        record = check_record(
            found,
            where,
            self.log,
            record_log=_Raising(),
            num_classes=self.num_classes,
        )
        return {**record, "dataset_name": self.dataset_name}


class _Raising(ProblemLog):
    """Passes an unusable record on to whoever asked for it."""

    def record(self, kind: str, where: str, what: str) -> None:
        raise RecordError(kind, where, what)


class RecordMix(Sequence):
    """Data sets laid one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Record]]):
        """
        Args:
            parts: the records of each data set; none is empty.
        """
        self.parts = list(parts)
        self._ends = list(accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def _locate(self, index: int) -> tuple[int, int]:
        """(number of the data set, index of its first record)."""
        part = bisect.bisect_right(self._ends, index)
        return part, self._ends[part] - len(self.parts[part])

    def __getitem__(self, index: int) -> Record:
        part, start = self._locate(index)
        return self.parts[part][index - start]

    def next_of_same(self, index: int) -> int:
        """The index of the following record of the same data set; the first after the last."""
        part, start = self._locate(index)
        return start + (index - start + 1) % len(self.parts[part])


class CaptionPool(Sequence):
    """(file name, caption) of the records of a data set, without a copy of the captions."""

    def __init__(self, records: Sequence[Record]):
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[str, str]:
        """An empty caption for a record that has none or cannot be used."""
        try:
            record = self.records[index]
        except RecordError:
            return "", ""
        return record["file_name"], record.get("caption", "")
