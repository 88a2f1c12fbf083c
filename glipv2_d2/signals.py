"""Ctrl-C and SIGTERM in the processes of a run: it ends where it can be gone on from."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.multiprocessing import ProcessExitedException

__all__ = [
    "StopSignals",
    "Stopped",
    "leave_signals_to_main_process",
    "passed_to_processes",
    "starting_workers",
]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """Ends the work at hand because of a signal; no `Exception`, which a trainer logs as a failure.

    Attributes:
        number: of the signal.
        status: what shells expect of a process that a signal has ended.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number
        self.status = 128 + number


class StopSignals:
    """Within this context the first signal is noted in `number`, and a second ends the process.

    Args:
        patient: further signals are not counted. So it must be where other processes pass a signal
            on, which the terminal or the cluster has sent to everybody already.
    """

    def __init__(self, patient: bool = False):
        self.number: int | None = None
        self.patient = patient
        self._raises = False
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():  # no other may
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Within this context the first signal raises at once, for work that may be done anew.

        Raises:
            Stopped
        """
        self._raises = True
        try:
            if self.number is not None:
                raise Stopped(self.number)
            yield
        finally:
            self._raises = False

    def _note(self, number: int, _) -> None:
        if os.getpid() != self._process:
            return  # a data worker, which has inherited this handler
        if self.number is None:
            self.number = number
            hint = "" if self.patient else " Once more ends it now."
            # Not through `logging`: the signal may have come amid a line of it.
            os.write(2, f"\n{signal.Signals(number).name}: stops when it can.{hint}\n".encode())
            if self._raises:
                raise Stopped(number)
        elif not self.patient:
            _die_by(number)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Data workers that are started within this context never see Ctrl-C, their start included."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_main_process() -> None:
    """Let a data worker outlive a SIGTERM that the whole job gets: its batches are still needed.

    Only the main process ends it, by a SIGTERM of its own.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by_main_process, args=(os.getppid(),), daemon=True).start()


def _end_by_main_process(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)


@contextmanager
def passed_to_processes() -> Iterator[None]:
    """Pass signals to the processes of a job that this one has spawned, and wait for their end.

    A second signal kills them. Without such processes a signal does what it did before.

    Raises:
        SystemExit: a signal has ended the job.
    """
    told: list[int] = []

    def tell(number: int, _) -> None:
        # Data workers are daemons.
        spawned = [child for child in multiprocessing.active_children() if not child.daemon]
        if told or not spawned:
            for child in spawned:
                child.kill()
            signal.signal(number, before[signal.Signals(number)])
            os.kill(os.getpid(), number)
            return
        told.append(number)
        for child in spawned:
            if child.pid is not None:  # of one that was started
                os.kill(child.pid, number)

    before = {number: signal.signal(number, tell) for number in _SIGNALS}
    try:
        yield
    except ProcessExitedException as error:
        if told or error.exit_code - 128 in _SIGNALS:
            sys.exit(128 + told[0] if told else error.exit_code)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        sys.exit(128 + told[0])


def _die_by(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
