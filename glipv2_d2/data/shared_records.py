"""Records of a data set that are read once per machine and mapped into every process of it."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import pickle
import tempfile
import traceback
from array import array
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import torch.distributed as dist
from detectron2.utils import comm

from ..errors import DataError, UserError, user_message
from .reader import LazySequence, collector_paused
from .report import Record

Extras = TypeVar("Extras")

logger = logging.getLogger(__name__)


class _Place(NamedTuple):
    """Where another process of this machine finds an open file that has no name."""

    path: str
    device: int
    inode: int


class SharedRecords(LazySequence[Record]):
    """Records, serialized one by one into a temporary file that is mapped into memory.

    As Detectron2's `DatasetFromList`, but the bytes are pages of a file: processes and data workers
    that map it, forked or spawned, share them, and the system may drop them when memory is short.
    The file has no name, so that nothing is left behind however the run ends. It lies in the folder
    for temporary files (`TMPDIR`). A pickled object is opened where it is unpickled, on this
    machine and as long as the process that pickled it lives.

    Args:
        records: are consumed one at a time: a generator never has all of them in memory.

    Raises:
        DataError: the folder for temporary files has not enough room.
    """

    def __init__(self, records: Iterable[Record]):
        file = tempfile.TemporaryFile(prefix="glipv2_d2_records_")
        starts = array("q", [0])
        try:
            for record in records:
                data = pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
                file.write(data)
                starts.append(starts[-1] + len(data))
            file.write(starts.tobytes())
            file.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            folder = tempfile.gettempdir()
            raise DataError(
                f"the records of a data set do not fit into the folder for temporary files, "
                f"{folder!r} ({error.strerror} after {starts[-1] / 2**20:.0f} MiB): set TMPDIR to "
                "a folder with more room"
            ) from error
        self._map(file)

    def _map(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Behind the records lies where each begins; the last number is where these numbers begin.
        (end,) = np.frombuffer(self._bytes[-8:], dtype=np.int64)
        self._starts = np.frombuffer(self._bytes, dtype=np.int64, offset=end)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def item(self, index: int) -> Record:
        start, end = self._starts[index : index + 2]
        return pickle.loads(self._bytes[start:end])

    def place(self) -> _Place:
        """For `SharedRecords.at` in another process of this machine."""
        found = os.fstat(self._file.fileno())
        path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        return _Place(path, found.st_dev, found.st_ino)

    @classmethod
    def at(cls, place: _Place) -> SharedRecords:
        """The records of another process.

        Raises:
            OSError: they are not there: that process has ended, or lives in another container, or
                the system has no `/proc`.
        """
        file = open(place.path, "rb")
        found = os.fstat(file.fileno())
        if (found.st_dev, found.st_ino) != place[1:]:
            file.close()
            raise FileNotFoundError(f"{place.path} is another file")
        records = cls.__new__(cls)
        records._map(file)
        return records

    def __reduce__(self) -> tuple[Callable, tuple]:
        if os.path.isdir("/proc/self/fd"):
            return SharedRecords.at, (self.place(),)
        return SharedRecords, (list(self),)  # macOS: spawned data workers have copies


def share_records(
    make: Callable[[], tuple[Iterable[Record], Extras]],
) -> tuple[SharedRecords, Extras]:
    """Read a data set in the first process of each machine, for all of its processes.

    Every process of the job must call it (it is collective), with functions that read the same.
    Where the processes of a machine are unknown (not started by `launch`) or one cannot open the
    file of another, a process reads for itself.

    Args:
        make: reads, checks and gives the records, and all that comes with them and another process
            needs: counts, messages, fields of `MetadataCatalog`. It is called in the first process
            of each machine only. The second value is pickled after all records were taken, so that
            it may be something that a generator of records fills.

    Returns:
        The records, and the second value of `make` (in the other processes a copy).

    Raises:
        DataError, ...: what `make` raises in any process of the job is raised in all of them; an
            error that no user can mend as a `RuntimeError` with its traceback in the others.
    """
    if not _together() or comm._LOCAL_PROCESS_GROUP is None:
        return _read(make)
    own: tuple[SharedRecords, Extras] | None = None
    told: tuple[_Place, Extras] | Exception | None = None
    failure = None
    if comm.get_local_rank() == 0:
        try:
            own = _read(make)
            told = own[0].place(), own[1]
        except Exception as error:
            failure = told = error
            if user_message(error) is None:  # which may not survive pickling
                told = RuntimeError(f"another process failed:\n{traceback.format_exc()}")
    everyone = comm.all_gather(told)
    for found in (failure, *everyone):
        if isinstance(found, Exception):
            raise found
    if own is None:
        place, extras = everyone[comm.get_rank() - comm.get_local_rank()]
        try:
            own = SharedRecords.at(place), extras
        except OSError as error:
            logger.warning("records of another process cannot be shared (%s): read again", error)
    comm.synchronize()  # the first process keeps the file open until then
    return own or _read(make)


def of_all_processes(value: Any) -> list[Any]:
    """The values that the processes of the job have, all of which call it."""
    return comm.all_gather(value) if _together() else [value]


def agreed(work: Callable[[], Extras]) -> list[Extras]:
    """What `work` gives in each process of the job, all of which call it; or all fail alike.

    Alone, a process that fails would leave those of other machines waiting, and without its reason.

    Raises:
        UserError: what `work` raises in the first process in which it does.
    """
    outcome: tuple[Extras | None, UserError | None]
    try:
        outcome = work(), None
    except UserError as error:
        outcome = None, error
    values: list[Any] = []
    for value, failure in of_all_processes(outcome):
        if failure is not None:
            raise failure
        values.append(value)
    return values


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@collector_paused()
def _read(make: Callable[[], tuple[Iterable[Record], Extras]]) -> tuple[SharedRecords, Extras]:
    records, extras = make()
    shared = SharedRecords(records)
    logger.info("%d records are kept in %.1f MiB", len(shared), len(shared._bytes) / 2**20)
    return shared, extras
