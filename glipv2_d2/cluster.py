"""Programs that start the processes of a job themselves: torchrun, and srun with several tasks.

They tell each process its place in its environment. Whoever does not look trains as many
unconnected copies, all of them into one folder.
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from .errors import UsageError

__all__ = ["Place", "place_in_job"]


class Place(NamedTuple):
    """Where this process stands in a job that was started around it.

    Attributes:
        starter: "torchrun" or "srun", for messages.
        rank, world_size: of this process, and of the job.
        local_rank, local_size: the same on this machine; the ranks of a machine follow each other.
        address: where the processes meet, as `torch.distributed.init_process_group` takes it.
    """

    starter: str
    rank: int
    world_size: int
    local_rank: int
    local_size: int
    address: str


def place_in_job(
    num_machines: int = 1, environment: Mapping[str, str] = os.environ
) -> Place | None:
    """This process's place in a job of several processes; None where it stands alone.

    Read are torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE), else those that
    srun sets for the tasks of a step. A script of sbatch is no such task, even where its allocation
    has several; it is one process, which may start others.

    Args:
        num_machines: of the user's own arrangement (`--num-machines`), in which each process
            starts those of its machine; with more than one the tasks of srun are the machines.

    Raises:
        UsageError: the environment speaks of several processes, but does not say all that is needed
            to join them, or has no number where one is expected; or torchrun and `num_machines`
            contradict each other.
    """
    of_torchrun = "LOCAL_RANK" in environment and _number(environment, "WORLD_SIZE", 1) > 1
    if num_machines > 1:
        if of_torchrun:
            raise UsageError(
                f"torchrun says that this is one of {environment['WORLD_SIZE']} processes, and "
                f"--num-machines {num_machines} would start others: leave out --num-machines, "
                "--machine-rank and --dist-url"
            )
        return None
    if of_torchrun:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if missing := [n for n in (*names, "MASTER_ADDR", "MASTER_PORT") if not environment.get(n)]:
            raise UsageError(
                f"the environment says that this is one of {environment['WORLD_SIZE']} processes, "
                f"and lacks {', '.join(missing)}: start them with torchrun, which sets all of it, "
                "or unset LOCAL_RANK"
            )
        rank, size, local_rank, local_size = (_number(environment, name) for name in names)
        return Place("torchrun", rank, size, local_rank, local_size, "env://")
    if _number(environment, "WORLD_SIZE", 1) > 1 and "RANK" in environment:
        raise UsageError(
            f"the environment says that this is process {environment['RANK']} of "
            f"{environment['WORLD_SIZE']} (RANK, WORLD_SIZE); without LOCAL_RANK it cannot join "
            "the others: start it with torchrun; or unset RANK, and for several machines give "
            "--num-machines, --machine-rank and --dist-url"
        )
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in environment:
        return _of_srun(environment)
    return None


def _of_srun(environment: Mapping[str, str]) -> Place:
    rank, size = (_number(environment, n) for n in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
    machines = _number(environment, "SLURM_STEP_NUM_NODES", 1)
    machine, local_rank = (
        _number(environment, name, 0) for name in ("SLURM_NODEID", "SLURM_LOCALID")
    )
    local_size = size // machines
    if size % machines or rank != machine * local_size + local_rank:
        raise UsageError(
            f"srun started {size} tasks on {machines} machines, not as many on each, one machine "
            "after the other: use --ntasks-per-node and --distribution=block"
        )
    # Any task may name the first machine; the port depends on the step, so that two do not meet.
    host = environment.get("MASTER_ADDR") or _first_host(environment.get("SLURM_STEP_NODELIST", ""))
    if not host:
        raise UsageError(
            "srun does not say on which machine the job begins (SLURM_STEP_NODELIST): set "
            "MASTER_ADDR to its address"
        )
    step = sum(_number(environment, name, 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = environment.get("MASTER_PORT") or 15000 + step % 15000
    return Place("srun", rank, size, local_rank, local_size, f"tcp://{host}:{port}")


def _number(environment: Mapping[str, str], name: str, absent: int | None = None) -> int:
    text = environment.get(name) or absent
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(
            f"the environment variable {name} is {text!r}, where the number of processes or of one "
            "of them is expected: unset it, or start the processes with torchrun or srun"
        ) from None


def _first_host(nodes: str) -> str:
    """The first machine of SLURM's short form: `gpu[03-05,9]` begins with gpu03."""
    first = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(first.groups("")) if first else nodes
