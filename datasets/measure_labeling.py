"""How many pairs a second `glip label` labels, what it costs beside the model, and its memory.

    python datasets/measure_labeling.py --model glip_scenes --pairs 64 --processes 1 2
    python datasets/measure_labeling.py --memory 10000

The pairs are scenes (datasets/README.md); with --memory the model is a stand-in and the images are
tiny, so that what grows is the labeling's own.
"""

import argparse
import csv
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from glipv2_d2.cli.label import load_teacher
from glipv2_d2.data.datasets.coco_like import load_json
from glipv2_d2.errors import command
from glipv2_d2.labeling.drivers import label_here, label_in_processes
from glipv2_d2.labeling.pairs import find_shards
from glipv2_d2.labeling.shards import LabelSettings
from glipv2_d2.labeling.teacher import LabeledText
from glipv2_d2.model_zoo import find_model


class Timed:
    """A teacher that counts its own seconds."""

    def __init__(self, teacher):
        self.teacher = teacher
        self.batch_size = teacher.batch_size
        self.seconds = 0.0

    def __call__(self, images, captions):
        start = time.perf_counter()
        labels = self.teacher(images, captions)
        self.seconds += time.perf_counter() - start
        return labels


class StandIn:
    """Finds the first word, twenty times."""

    batch_size = 8

    def __call__(self, images, captions):
        print_memory()
        box = [0, 1.0, 2.0, 3.0, 4.0, 0.5]
        return [LabeledText(caption, [[0, 5]], [box] * 20) for caption in captions]


asked = 0


def print_memory() -> None:
    """A line at the first batch and each 250th: the most memory so far."""
    global asked
    if asked % 250 == 0:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{asked * StandIn.batch_size} pairs: {peak:.1f} MiB at most so far", flush=True)
    asked += 1


def write_table(path: Path, count: int, scenes: Path) -> None:
    """`count` rows of captions of scenes."""
    images = load_json(str(scenes / "annotations" / "val_grounding.json"), "captions")["images"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "caption"])
        for i in range(count):
            image = images[i % len(images)]
            writer.writerow([scenes.resolve() / image["file_name"], image["caption"]])


def measure(args: argparse.Namespace, folder: Path) -> None:
    table = folder / "pairs.csv"
    write_table(table, args.pairs, args.scenes)
    shards = find_shards([str(table)], max(args.pairs // 8, 1))
    settings = LabelSettings("webdataset", 0.1, "rules", False, {}, ["path", "caption"])
    model = find_model(args.model)
    make = partial(
        load_teacher, str(model.config), str(model.weights), [], "auto", args.batch_size, settings
    )
    for processes in args.processes:
        output = folder / f"labels_{processes}"
        output.mkdir()
        if processes == 1:
            teacher = Timed(make())
            start = time.perf_counter()
            list(label_here(shards, output, partial(_given, teacher), settings))
            seconds = time.perf_counter() - start
            more = seconds / teacher.seconds - 1
            print(f"1 process: {args.pairs / seconds:.2f} pairs/s; {more:.1%} beside the model")
            continue
        found = label_in_processes(shards, output, make, settings, processes)
        first = next(found)  # by then the models are loaded
        start = time.perf_counter()
        pairs = sum(summary.pairs for summary in found)
        rate = pairs / (time.perf_counter() - start)
        print(f"{processes} processes: {rate:.2f} pairs/s after the first {first.pairs}")


def _given(teacher: Timed) -> Timed:
    return teacher


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="glip_scenes")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory", type=int, metavar="PAIRS")
    parser.add_argument("--scenes", type=Path, default=Path(__file__).parent / "scenes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.memory is None:
            measure(args, Path(name))
            return
        table = Path(name) / "pairs.csv"
        write_table(table, args.memory, args.scenes)
        settings = LabelSettings("webdataset", 0.1, "rules", False, {}, ["path", "caption"])
        shards = find_shards([str(table)], args.memory)
        (summary,) = label_here(shards, Path(name), StandIn, settings)
        print(f"{summary.labeled} pairs in one shard")


if __name__ == "__main__":
    sys.exit(main())
