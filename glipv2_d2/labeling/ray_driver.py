"""The driver for several machines: the workers of a Ray cluster label the shards.

Ray Data starts the workers, gives each its next shard, and does a shard anew whose worker or
machine died. Its own checkpoint is not used: finished shards are known by their manifests, whatever
driver wrote them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from ..errors import UserError, user_message
from .pairs import Shard
from .shards import LabelSettings, ShardSummary, label_shard
from .teacher import Teacher

__all__ = ["label_with_ray"]


def label_with_ray(
    shards: Sequence[Shard],
    output: Path,
    make_teacher: Callable[[], Teacher],
    settings: LabelSettings,
    workers: int,
    device: str = "auto",
) -> Iterator[ShardSummary]:
    """Label on the machines of a Ray cluster.

    The cluster is the one that this process has joined; else that of `RAY_ADDRESS`, the one that
    runs on this machine, or a new one of this machine alone. All machines have this package, and
    the shards, the weights and `output` under the same paths.

    Args:
        shards, output, settings: see `label_shard`.
        make_teacher: called once in each worker; goes there by cloudpickle.
        workers: how many, over all machines; those that there is no room for wait for it.
        device: "cpu": a worker has a CPU and one thread; otherwise a GPU, if the cluster has any.

    Yields:
        The summaries, as they come.

    Raises:
        UserError: what ends `label_shard` in a worker; or no shard was finished for so long that
            Ray's watchdog (`RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S`, 30 minutes) ends the run.
    """
    import ray
    from ray.data.exceptions import ExecutionTimeoutError

    if not shards:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    gpu = device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    # A block for each shard: it is what is done anew after a death.
    rows = [{"shard": json.dumps(shard)} for shard in shards]
    replies = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Worker,
        fn_constructor_args=(os.getcwd(), output, make_teacher, settings),
        # Begins with all, and goes on with those that are left.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        **({"num_gpus": 1} if gpu else {"num_cpus": 1}),
    )
    replies.context.enable_progress_bars = False
    try:
        for row in replies.iter_rows():
            reply = json.loads(row["reply"])
            if isinstance(reply, str):
                raise UserError(reply)
            yield ShardSummary(*reply)
    except ExecutionTimeoutError as error:
        raise UserError(
            f"{error} (glip label: the same command goes on; take smaller shards where this is the "
            "time that one needs)"
        ) from error


class Worker:
    """A process of the cluster, with a teacher of its own.

    Args:
        folder: what relative paths are relative to.
        output, make_teacher, settings: see `label_with_ray`.
    """

    def __init__(
        self,
        folder: str,
        output: Path,
        make_teacher: Callable[[], Teacher],
        settings: LabelSettings,
    ):
        with suppress(OSError):  # where it is not, the first relative path is missed by its name
            os.chdir(folder)
        self.output, self.settings = output, settings
        self.teacher = cache(make_teacher)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Label the shard of a row; the reply is its summary, or a text: what a user can mend."""
        shard = Shard(*json.loads(row["shard"]))
        reply: ShardSummary | str | None
        try:
            reply = label_shard(shard, self.output, self.teacher, self.settings)
        except Exception as error:
            reply = user_message(error)
            if reply is None:
                raise
        return {"reply": json.dumps(reply)}
