"""What is wrong with a data set: counted, printed once, or raised at the first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ..errors import DataError, printable

INVALID = ("drop", "raise")


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


class ProblemLog:
    """Counts problems by their kind and keeps the first example of each.

    Attributes:
        mode: `"drop"`: what is wrong is left out and counted; `"raise"`: it stops at once.
        drop_records: False: a record that is wrong stops even in mode `"drop"`.
        records, annotations: how many were left out.
        masks: polygons and masks that were left out, without their boxes.
        clipped: boxes that were cut at the border of their image and kept.
        warnings: what is used as it is, and perhaps not as it is meant.
        kinds: kind of problem -> (count, the first example).
        no_faults: the kinds of sound records that were asked to be left out.
    """

    def __init__(self, mode: str = "drop", drop_records: bool = True):
        if mode not in INVALID:
            raise ValueError(f"invalid must be one of {INVALID}, got {mode!r}")
        self.mode = mode
        self.drop_records = drop_records
        self.records = 0
        self.annotations = 0
        self.masks = 0
        self.clipped = 0
        self.warnings: list[str] = []
        self.kinds: dict[str, tuple[int, str]] = {}
        self.no_faults: set[str] = set()

    def record(self, kind: str, where: str, what: str) -> None:
        """A whole record is unusable.

        Args:
            kind: a few words under which it is counted.
            where: file and record.
            what: the field and what is wrong with it.

        Raises:
            DataError: in mode `"raise"`, or if records must not be dropped.
        """
        self._add(kind, where, what, "records")
        self.records += 1

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

    def unusable(self, error: RecordError) -> None:
        """`record` with what a reader raised; a record that was asked to be left out is no
        fault and stops nothing."""
        self._add(error.kind, error.where, error.what, "records", error.fault)
        self.records += 1

    def _add(self, kind: str, where: str, what: str, unit: str, fault: bool = True) -> None:
        if fault and self.mode == "raise":
            raise DataError(
                f"{where}: {what}. Repair the file, or leave such {unit} out with invalid='drop'"
            )
        if fault and unit == "records" and not self.drop_records:
            raise DataError(
                f"{where}: {what}. Repair the file: a test over fewer images is another test"
            )
        if not fault:
            self.no_faults.add(kind)
        count, first = self.kinds.get(kind, (0, f"{where}: {what}"))
        self.kinds[kind] = (count + 1, first)

    def summary(self) -> str:
        """One line: how much was left out, per kind with the first example; empty if nothing."""
        parts = []
        if self.kinds:
            kinds = sorted(self.kinds.items(), key=lambda item: -item[1][0])
            lost = [
                f"{count} {name}" + ("s" if count > 1 else "")
                for count, name in (
                    (self.records, "record"),
                    (self.annotations, "annotation"),
                    (self.masks, "mask"),
                )
                if count
            ]
            parts.append(
                f"left out {' and '.join(lost)}: "
                + "; ".join(f"{count} x {kind} (first: {first})" for kind, (count, first) in kinds)
            )
        if self.clipped:
            parts.append(f"boxes clipped at the border of their image: {self.clipped}")
        return printable(". ".join(parts))


_ACTIVE: ContextVar[ProblemLog | None] = ContextVar("problem_log", default=None)


@contextmanager
def problem_log(
    source: str, mode: str | None = None, drop_records: bool = True
) -> Iterator[ProblemLog]:
    """The log of the data set that is being loaded.

    Readers and checks of one data set share one log, so that there is one line per data set:
    inside another `problem_log` this is the outer one. Readers are called through
    `DatasetCatalog.get`, which passes no arguments; that is why the log is ambient.

    Args:
        source: begins the line, for instance the name of the data set.
        mode, drop_records: of a log that is made here; see `ProblemLog`. The mode is
            `"drop"` by default.
    """
    outer = _ACTIVE.get()
    if outer is not None and mode in (None, outer.mode):
        yield outer
        return
    log = ProblemLog(mode or "drop", drop_records)
    token = _ACTIVE.set(log)
    try:
        yield log
    finally:
        _ACTIVE.reset(token)
    for line in (log.summary(), *log.warnings):
        if line:
            logging.getLogger(__name__).warning("%s: %s", source, printable(line))
