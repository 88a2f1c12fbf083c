"""Kills a training of 60 steps at random moments and at its last save, and compares what comes out.

    python -m tests.support.kill_training --kills 20

Not part of the suite (some ten minutes); tests/engine/test_saving.py is its small version. The
processes are killed by SIGKILL. Prints what differs from the run that was left alone; nothing may.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.tiny_data import differences, lines, load, losses, write_tiny_data

STEPS = 60


def train(folder: Path, *options: str) -> subprocess.Popen:
    """A training process of its own, which goes on from what the folder has."""
    config = Path(__file__).with_name("tiny_random.py")
    command = [sys.executable, "-m", __name__ if __name__ != "__main__" else __spec__.name]
    command += ["--child", "--config-file", str(config), "--num-gpus", "0", "--resume"]
    command += [f"train.output_dir={folder}", f"train.max_iter={STEPS}"]
    command += ["train.checkpointer.period=5", "train.eval_period=20", "train.best_metric=bbox/AP"]
    with open(folder.with_suffix(".out"), "a") as log:
        return subprocess.Popen([*command, *options], stdout=log, stderr=log)


def starts(folder: Path) -> int:
    log = folder / "log.txt"
    return log.read_text(errors="replace").count("Starting training") if log.exists() else 0


def wait_for_start(process: subprocess.Popen, folder: Path, before: int) -> None:
    while starts(folder) == before and process.poll() is None:
        time.sleep(0.01)


def kill_at_random(folder: Path, seconds: float) -> str:
    """Start, wait for the training to begin, and kill up to `seconds` later."""
    before, workers = starts(folder), random.choice((0, 1))
    process = train(folder, f"dataloader.train.num_workers={workers}")
    wait_for_start(process, folder, before)
    time.sleep(random.uniform(0, seconds))
    if process.poll() is not None:
        return f"ended by itself ({process.returncode})"
    process.kill()
    process.wait()
    return f"killed with {workers} workers, {len(losses(folder))} steps in metrics.json"


def kill_at_last_save(folder: Path) -> bool:
    """Start, and kill while model_final.pth is written; whether that was hit."""
    process = train(folder)
    while process.poll() is None:
        if next(folder.glob(".model_final.pth.*"), None):
            process.kill()
            break
    process.wait()
    return not (folder / "model_final.pth").exists()


def compare(whole: Path, folder: Path) -> list[str]:
    found = []
    for name in ("model_final.pth", "model_best.pth"):
        found += [name + text for text in differences(load(whole / name), load(folder / name))]
    if lines(whole) != lines(folder):
        found.append("metrics.json")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    base = Path(tempfile.mkdtemp(prefix="kills_"))
    os.environ["TINY_DATA"] = str(base)
    write_tiny_data(base)
    whole, bad = base / "whole", []
    process = train(whole)
    wait_for_start(process, whole, 0)
    start = time.time()
    assert process.wait() == 0, whole.with_suffix(".out")
    seconds = (time.time() - start) / 5
    print(f"undisturbed: {5 * seconds:.1f} s; kills in the first {seconds:.1f} s", flush=True)
    kills, runs = 0, 0
    while kills < args.kills:
        folder = base / f"run{runs}"
        runs += 1
        while kills < args.kills and not (folder / "model_final.pth").exists():
            what = kill_at_random(folder, seconds)
            kills += what.startswith("killed")
            print(f"{folder.name} kill {kills}: {what}", flush=True)
        if not (folder / "model_final.pth").exists():
            at_last_save(folder)
        assert train(folder).wait() == 0, folder.with_suffix(".out")
        bad += (found := compare(whole, folder))
        print(f"{folder.name}: {len(found)} differences {found[:5]}", flush=True)
    print(f"{kills} kills in {runs} runs: {len(bad)} differences")
    if not bad:
        shutil.rmtree(base)
    return bool(bad)


def at_last_save(folder: Path) -> None:
    copy = folder.with_name("copy")
    for attempt in range(10):
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        if kill_at_last_save(folder):
            left = sorted(path.name for path in folder.glob(".model*"))
            print(f"killed in the last save, attempt {attempt + 1}: left {left}", flush=True)
            return
        shutil.rmtree(folder)
        copy.rename(folder)
    raise SystemExit("the last save was too quick to be hit")


if __name__ == "__main__":
    if "--child" in sys.argv:
        from glip_commands.train import parse
        from tests.support import recording_run

        recording_run.main(parse(sys.argv[2:]))
    else:
        sys.exit(main())
