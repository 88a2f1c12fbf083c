"""What is wrong with a data set: counted and told in one line, or raised at the first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import get_worker_info

from ..errors import DataError, printable

# In Detectron2's form.
Record = dict[str, Any]
INVALID = ("drop", "raise")
# Told while a training runs.
LEFT_OUT = "annotations or masks that cannot be used, left out"
REPLACED = "records that cannot be used, each replaced by the next of its data set"
WITHOUT_MASK = "boxes without a mask, left out"

_ROWS = 64  # of the main process and of so many data workers, less one


class RecordError(DataError):
    """One record cannot be used.

    Attributes:
        kind: a few words under which it is counted.
        where: file and record.
        what: the field and what is wrong with it.
        fault: False for a sound record that was asked to be left out (by its scores, say), which
            does not stop in mode `"raise"` either.
    """

    def __init__(self, kind: str, where: str, what: str, fault: bool = True):
        super().__init__(f"{where}: {what}")
        self.kind, self.where, self.what, self.fault = kind, where, what, fault

    def __reduce__(self):
        return RecordError, (self.kind, self.where, self.what, self.fault)


class Report:
    """Counts what is wrong with a data set, by its kind, and keeps the first example of each.

    Readers and checks of one data set get one report, and whoever made it calls `log` at the end:
    one line per data set. What is found while a training runs has no end to wait for. A report with
    `running` counts tells it when a count reaches 1, 10, 100, ... in a process; these counts
    are in memory that forked and spawned data workers share with the main process.

    Attributes:
        source: begins the line, for instance the name of the data set.
        mode: `"drop"`: what is wrong is left out and counted; `"raise"`: it stops at once.
        drop_records: False: a record that is wrong stops even in mode `"drop"`.
        records, annotations: how many were left out.
        masks: polygons and masks that were left out, without their boxes.
        clipped: boxes that were cut at the border of their image and kept.
        warnings: what is used as it is, and perhaps not as it is meant.
        kinds: kind of problem -> (count, the first example).
        no_faults: the kinds of sound records that were asked to be left out.
        running: names of the running counts.
    """

    def __init__(
        self,
        source: str = "",
        mode: str = "drop",
        drop_records: bool = True,
        running: Sequence[str] = (),
    ):
        if mode not in INVALID:
            raise ValueError(f"invalid must be one of {INVALID}, got {mode!r}")
        self.source = source
        self.mode = mode
        self.drop_records = drop_records
        self.records = self.annotations = self.masks = self.clipped = 0
        self.warnings: list[str] = []
        self.kinds: dict[str, tuple[int, str]] = {}
        self.no_faults: set[str] = set()
        self.running = tuple(running)
        # A process writes into a row of its own, so that no lock is needed. On the CPU whatever
        # torch.device a model is built in ("meta").
        counts = torch.zeros(_ROWS, len(self.running), dtype=torch.int64, device="cpu")
        self._counts = counts.share_memory_() if running else counts

    def record(self, kind: str, where: str, what: str, fault: bool = True) -> None:
        """A whole record is unusable.

        Args:
            kind: a few words under which it is counted.
            where: file and record.
            what: the field and what is wrong with it.
            fault: see `RecordError`, whose attributes these are.

        Raises:
            DataError: in mode `"raise"`, or if records must not be dropped.
        """
        if fault and self.mode == "drop" and not self.drop_records:
            raise DataError(
                f"{where}: {what}. Repair the file: a test over fewer images is another test"
            )
        self._add(kind, where, what, "records", fault)
        self.records += 1
        if not fault:
            self.no_faults.add(kind)

    def unusable(self, error: RecordError) -> None:
        """`record` with what a reader or a check raised."""
        self.record(error.kind, error.where, error.what, error.fault)

    def annotation(self, kind: str, where: str, what: str) -> None:
        """One annotation of a record is unusable; arguments and errors as `record`."""
        self._add(kind, where, what, "annotations")
        self.annotations += 1

    def mask(self, kind: str, where: str, what: str) -> None:
        """A polygon or a mask is unusable, its box is not; see `record`."""
        self._add(kind, where, what, "masks")
        self.masks += 1

    def warn(self, text: str | None) -> None:
        """Something that the user should know, and that stops nothing; None: nothing."""
        if text is not None and text not in self.warnings:
            self.warnings.append(text)

    def _add(self, kind: str, where: str, what: str, unit: str, fault: bool = True) -> None:
        if fault and self.mode == "raise":
            raise DataError(
                f"{where}: {what}. Repair the file, or leave such {unit} out with invalid='drop'"
            )
        if LEFT_OUT in self.running:
            self.count(LEFT_OUT, detail=f"{kind}; {where}: {what}")
            return
        count, first = self.kinds.get(kind, (0, f"{where}: {what}"))
        self.kinds[kind] = (count + 1, first)

    def count(self, name: str, count: int = 1, detail: str = "", of: int | None = None) -> None:
        """Add to a running count.

        Args:
            name: one of `running`.
            count: how many.
            detail: an example, for the log line if one is due.
            of: how many there were in this process, for the same line.
        """
        if not count:
            return
        worker = get_worker_info()
        cell = self._counts[0 if worker is None else 1 + worker.id % (_ROWS - 1)]
        column = self.running.index(name)
        before = int(cell[column])
        cell[column] += count
        if len(str(before + count)) > len(str(before)) or before == 0:
            where = "" if worker is None else f" in data worker {worker.id}"
            share = "" if of is None else f" of {of}"
            example = f" ({printable(detail)})" if detail else ""
            logging.getLogger(__name__).warning(
                "%s: %d so far%s%s%s", name, before + count, share, where, example
            )

    def totals(self) -> dict[str, int]:
        """Every running count, summed over the main process and its data workers."""
        return dict(zip(self.running, self._counts.sum(0).tolist()))

    def summary(self) -> str:
        """One line: how much was left out, per kind with the first example; empty if nothing."""
        parts = []
        if self.kinds:
            kinds = sorted(self.kinds.items(), key=lambda item: -item[1][0])
            units = (self.records, "record"), (self.annotations, "annotation"), (self.masks, "mask")
            lost = [f"{count} {name}" + "s" * (count > 1) for count, name in units if count]
            parts.append(
                f"left out {' and '.join(lost)}: "
                + "; ".join(f"{count} x {kind} (first: {first})" for kind, (count, first) in kinds)
            )
        if self.clipped:
            parts.append(f"boxes clipped at the border of their image: {self.clipped}")
        return printable(". ".join(parts))

    def log(self) -> None:
        """Say what was left out in one line, and every warning in another."""
        for line in (self.summary(), *self.warnings):
            if line:
                logging.getLogger(__name__).warning("%s: %s", self.source, printable(line))


@contextmanager
def reported(source: str, report: Report | None = None) -> Iterator[Report]:
    """The given report; without one a report of its own, logged when all went well.

    Args:
        source: of that report.
        report: of the data set that is being read.
    """
    if report is not None:
        yield report
        return
    report = Report(source)
    yield report
    report.log()
