"""Counts of what the data pipeline leaves out, summed over the loader's worker processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch.utils.data import get_worker_info

from ..errors import printable

_ROWS = 64


class Counters:
    """Named counts in shared memory.

    Workers that are forked write into the same memory as the main process, each into a row of
    its own, so that no lock is needed; `total` in the main process sums the rows.
    A count is logged when it reaches 1, 10, 100, ... in a process.
    """

    def __init__(self, names: Sequence[str], logger: str):
        self.names = tuple(names)
        self._logger = logger
        # On the CPU whatever torch.device a model is built in ("meta").
        counts = torch.zeros(_ROWS, len(self.names), dtype=torch.int64, device="cpu")
        self._counts = counts.share_memory_()

    def add(self, name: str, count: int = 1, detail: str = "", of: int | None = None) -> None:
        """Add to a count.

        Args:
            name: of the count.
            count: how many.
            detail: an example, for the log line if one is due.
            of: how many there were in this process, for the same line.
        """
        if not count:
            return
        worker = get_worker_info()
        cell = self._counts[0 if worker is None else 1 + worker.id % (_ROWS - 1)]
        column = self.names.index(name)
        before = int(cell[column])
        cell[column] += count
        if len(str(before + count)) > len(str(before)) or before == 0:
            where = "" if worker is None else f" in data worker {worker.id}"
            share = "" if of is None else f" of {of}"
            example = f" ({printable(detail)})" if detail else ""
            logging.getLogger(self._logger).warning(
                "%s: %d so far%s%s%s", name, before + count, share, where, example
            )

    def total(self) -> dict[str, int]:
        """Every count, summed over processes."""
        return dict(zip(self.names, self._counts.sum(0).tolist()))
