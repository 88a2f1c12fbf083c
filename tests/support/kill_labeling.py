"""Kills processes of `glip label` at random moments and compares what comes out.

    python -m tests.support.kill_labeling --kills 10
    python -m tests.support.kill_labeling --kills 10 --ray    # two Ray nodes of this machine

Not part of the suite (some minutes); tests/labeling/test_drivers.py is its small version. The
processes are killed by SIGKILL: so often one that labels, with the main process alive, and so often
the main process, after which the same command is started again. Prints what differs from the run
that was left alone; nothing may.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from glipv2_d2.labeling.drivers import label_here, label_in_processes
from glipv2_d2.labeling.pairs import find_shards
from glipv2_d2.labeling.ray_driver import label_with_ray
from tests.support.stand_in_teacher import StandIn, contents, settings, write_pairs

PAIRS, ROWS = 600, 10


def child(table: str, output: Path) -> None:
    """Labels by two workers, slowly enough to be killed at any moment."""
    label = label_with_ray if "RAY_ADDRESS" in os.environ else label_in_processes
    teacher = partial(StandIn, seconds=0.03)
    shards = find_shards([table], ROWS)
    for summary in label(shards, output, teacher, settings("webdataset"), 2):
        assert summary.failed is None, summary


def start(table: str, output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.support.kill_labeling", "--child", table, str(output)]
    return subprocess.Popen(command)


def workers(main: int) -> list[int]:
    """The processes that label: those of the main process, or the actors of the Ray cluster."""
    if "RAY_ADDRESS" in os.environ:
        lines = [(int(p.parent.name), p.read_bytes()) for p in Path("/proc").glob("[0-9]*/cmdline")]
        return [pid for pid, line in lines if line.startswith(b"ray::") and b"(Worker)" in line]
    pids = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    lines = [(int(pid), Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in pids]
    return [pid for pid, line in lines if b"spawn_main" in line]


def done(output: Path) -> int:
    return len(list(output.glob("*/manifest.json")))


def killed(table: str, output: Path, kills: int, of_main: bool, rng: random.Random) -> None:
    """Label with so many kills, each when some more shards are done."""
    output.mkdir()
    main, made = start(table, output), 0
    total = PAIRS // ROWS
    for number in range(kills):
        while done(output) < min(total - 2, number * total // (kills + 1) + 1):
            assert main.poll() is None, "it has ended before it was killed"
            time.sleep(0.05)
        time.sleep(rng.random())
        if of_main:
            main.kill()
            main.wait()
            main = start(table, output)
            made += 1
        elif main.poll() is None and (alive := workers(main.pid)):
            os.kill(rng.choice(alive), signal.SIGKILL)
            made += 1
    assert main.wait() == 0
    print(f"{made} kills of {'the main process' if of_main else 'workers'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--of", choices=["workers", "main", "both"], default="both")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]))
        return
    if args.ray:
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address
    rng = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill_labeling_"))
    table = write_pairs(folder / "in", "csv", PAIRS)
    alone = folder / "alone"
    alone.mkdir()
    list(label_here(find_shards([table], ROWS), alone, StandIn, settings("webdataset")))
    expected = contents(alone)
    for of_main in {"workers": [False], "main": [True], "both": [False, True]}[args.of]:
        output = folder / f"killed_{of_main}"
        killed(table, output, args.kills, of_main, rng)
        found = contents(output)
        differing = {name for name in {*expected, *found} if expected.get(name) != found.get(name)}
        print(f"{len(found)} files, different: {sorted(differing) or 'none'}", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
