"""Who labels the shards: this process, or several of this machine.

A driver takes shards and gives a summary of each; which one it is changes nothing in the files.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import torch

from ..errors import UsageError, UserError
from ..signals import starting_workers
from .pairs import Shard
from .shards import LabelSettings, ShardSummary, label_shard
from .teacher import Teacher

__all__ = ["label_here", "label_in_processes"]

MakeTeacher = Callable[[], Teacher]
# An error ends all.
Reply = ShardSummary | Exception
START_METHOD = "spawn"  # a forked process cannot use CUDA
# Processes that may die over a shard before it is given up.
MOST_TRIES = 5


def label_here(
    shards: Sequence[Shard], output: Path, make_teacher: MakeTeacher, settings: LabelSettings
) -> Iterator[ShardSummary]:
    """Label one shard after the other in this process; see `label_shard`."""
    teacher = cache(make_teacher)
    for shard in shards:
        yield label_shard(shard, output, teacher, settings)


def label_in_processes(
    shards: Sequence[Shard],
    output: Path,
    make_teacher: MakeTeacher,
    settings: LabelSettings,
    processes: int,
) -> Iterator[ShardSummary]:
    """Label in several processes of this machine, each with a teacher of its own.

    The threads of this process and the GPUs are divided among them. A process that dies (killed,
    out of memory) is replaced, and its shard done anew; after `MOST_TRIES` the shard is given up.
    When the iteration ends, or this process dies, they end.

    Args:
        shards, output, settings: see `label_shard`.
        make_teacher: called once in each process; it can be pickled.
        processes: how many.

    Yields:
        The summaries, as they come.

    Raises:
        UsageError: so many shards in a row are given up that it is no fault of theirs.
        Exception: what ends `label_shard` in a process.
    """
    threads = max(torch.get_num_threads() // processes, 1)
    start = partial(_Worker, threads, output, make_teacher, settings)
    queue = deque(shards)
    tries: Counter[Shard] = Counter()
    in_a_row = 0
    workers: list[_Worker] = []
    try:
        while queue or any(worker.shard for worker in workers):
            _put_to_work(workers, queue, processes, start)
            for worker, shard, reply in _replies(workers):
                if isinstance(reply, Exception):
                    raise reply
                if reply is None:
                    workers.remove(worker)
                    code = worker.end()
                    tries[shard] += 1
                    if tries[shard] < MOST_TRIES:
                        queue.appendleft(shard)
                        continue
                    what = f"{MOST_TRIES} processes died over it, the last with exit code {code}"
                    reply = ShardSummary(shard.name, failed=what)
                in_a_row = 0 if reply.failed is None else in_a_row + 1
                if in_a_row > processes and tries[shard]:
                    raise UsageError(
                        f"shard {shard.name!r} and others before it: {reply.failed}. Is there "
                        f"memory for {processes} models?"
                    )
                yield reply
    finally:
        for worker in workers:
            worker.end()


def _put_to_work(
    workers: list[_Worker],
    queue: deque[Shard],
    processes: int,
    start: Callable[[int], _Worker],
) -> None:
    """Give each process a shard, as long as there are some; start those that are needed."""
    for number in range(processes):
        worker = next((w for w in workers if w.number == number), None)
        if queue and worker is None:
            workers.append(worker := start(number))
        if queue and worker is not None and worker.shard is None:
            worker.give(queue.popleft())


def _replies(workers: list[_Worker]) -> Iterator[tuple[_Worker, Shard, Reply | None]]:
    """Wait for processes that are ready with their shard, or have died (None)."""
    busy = {worker.connection: worker for worker in workers if worker.shard is not None}
    for ready in connection.wait(list(busy)):
        worker = busy[ready]
        shard, worker.shard = worker.shard, None
        assert shard is not None
        try:
            yield worker, shard, worker.connection.recv()
        except (EOFError, ConnectionResetError):
            yield worker, shard, None


class _Worker:
    """A process that labels the shards that it is given.

    Attributes:
        number: below that of the processes.
        shard: that it is at; None: it waits.
    """

    def __init__(
        self,
        threads: int,
        output: Path,
        make_teacher: MakeTeacher,
        settings: LabelSettings,
        number: int,
    ):
        context: Any = get_context(START_METHOD)
        self.number = number
        self.shard: Shard | None = None
        self.connection, other = context.Pipe()
        task = other, number, threads, output, make_teacher, settings
        self.process = context.Process(target=_serve, args=task, daemon=True)
        with starting_workers():  # Ctrl-C is for the main process, which ends this one
            self.process.start()
        other.close()

    def give(self, shard: Shard) -> None:
        self.shard = shard
        with suppress(BrokenPipeError):  # it has died, which `_replies` notices
            self.connection.send(shard)

    def end(self) -> int | None:
        """End the process; returns its exit code."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        return self.process.exitcode


def _serve(
    shards: connection.Connection,
    number: int,
    threads: int,
    output: Path,
    make_teacher: MakeTeacher,
    settings: LabelSettings,
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    teacher = cache(make_teacher)
    with suppress(EOFError, ConnectionError):  # the main process has died
        while True:
            shards.send(_reply(shards.recv(), output, teacher, settings))


def _reply(shard: Shard, output: Path, teacher: MakeTeacher, settings: LabelSettings) -> Reply:
    try:
        return label_shard(shard, output, teacher, settings)
    except (UserError, OSError) as error:
        return error
    except Exception:
        return RuntimeError(f"in another process:\n{traceback.format_exc()}")


def _end_with_parent() -> None:
    """One that is killed cannot end the others, and the same shards may be begun anew."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
