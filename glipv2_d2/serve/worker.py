"""One thread that runs the model; what waits for it meanwhile is run together."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

__all__ = ["Stopping", "Worker"]

Run = Callable[[list[Any]], list[Any]]


class Stopping(Exception):
    """The server stops, and begins nothing more."""


class _Job(NamedTuple):
    run: Run
    item: Any
    result: Future


class Worker:
    """Runs items of many requests in one thread, those of one kind in batches.

    There is no wait for a batch to fill: the first item runs at once, and what comes while it does
    is the next batch. So a server that is used by one person is as quick as without batches.

    Args:
        batch_size: most items that are run together.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name="model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that are not run yet."""
        return len(self._waiting)

    async def do(self, run: Run, item: Any) -> Any:
        """The result of `run([..., item, ...])` for this item.

        Who is cancelled meanwhile leaves the queue. Where a batch fails, its items are run one by
        one, so that an error belongs to the item that has it.

        Args:
            run: gives one result per item, in their order. Items of the same `run` are batched.

        Raises:
            Stopping: `stop` was called.
        """
        result: Future = Future()
        with self._changed:
            if self._stopped:
                raise Stopping
            self._waiting.append(_Job(run, item, result))
            self._changed.notify()
        return await asyncio.wrap_future(result)

    def stop(self) -> None:
        """End the thread after the batch that it runs; what still waits gets `Stopping`."""
        with self._changed:
            self._stopped = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for job in waiting:
            if job.result.set_running_or_notify_cancel():
                job.result.set_exception(Stopping())
        self._thread.join()

    def _loop(self) -> None:
        while batch := self._next():
            _run(batch)

    def _next(self) -> list[_Job]:
        """The oldest item with those that can be run with it; empty: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            batch: list[_Job] = []
            others: list[_Job] = []
            while self._waiting and len(batch) < self._batch_size:
                job = self._waiting.popleft()
                fits = not batch or job.run == batch[0].run
                (batch if fits else others).append(job)
            self._waiting.extendleft(reversed(others))
            return batch


def _run(batch: list[_Job]) -> None:
    batch = [job for job in batch if job.result.set_running_or_notify_cancel()]
    if not batch:
        return
    try:
        _finish(batch)
    except Exception as error:
        if len(batch) == 1:
            batch[0].result.set_exception(error)
            return
        for job in batch:
            try:
                _finish([job])
            except Exception as own:
                job.result.set_exception(own)


def _finish(jobs: list[_Job]) -> None:
    results = jobs[0].run([job.item for job in jobs])
    for job, result in zip(jobs, results, strict=True):
        job.result.set_result(result)
