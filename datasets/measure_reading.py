#!/usr/bin/env python
"""How long a row of a TSV, a member of a tar shard and a file take to read, at random places.

    python datasets/measure_reading.py
    python datasets/measure_reading.py --boxes 1000000 5000000 --processes 1 2

It makes labeled noise images once and writes them in the three forms, then reads records in a
random order: the record alone (label and boxes, without the image), the bytes of the image, and, of
some, the decoded image. CPU times, means per record of the best of three rounds, from the file
cache: what other programs do does not matter, and a disk or network adds its own.

With `--boxes` it measures instead what a training loader over a COCO json of so many boxes costs,
in so many processes: CPU seconds of a process until the first batch, the most memory that a
process takes (`VmHWM`), and what all of them take together in the end, pages that they share
counted once (the sum of `Pss`). What they take before is subtracted from both.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import re
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.utils import comm
from PIL import Image

from glipv2_d2.compat import launch
from glipv2_d2.data import build_grounding_train_loader, register_coco_dataset
from glipv2_d2.data.containers import image_bytes
from glipv2_d2.data.datasets.glip_tsv import GlipTsvRecords
from glipv2_d2.data.datasets.mdetr import load_mdetr_json
from glipv2_d2.data.datasets.tar_shards import TarRecords
from glipv2_d2.data.images import read_record_image
from glipv2_d2.errors import command

CAPTION = "a caterpillar on a green leaf"
SPANS = [[[2, 13]], [[19, 29]]]
DIFFERENT = 32  # images; the rows repeat them
ROUNDS = 3
DECODED = 200  # records; decoding takes a hundred times as long as reading


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--boxes", type=int, nargs="+", default=[], help="of a COCO json")
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    return parser.parse_args(argv)


def measure(argv: list[str] | None = None) -> str:
    """Measure; prints and returns the table."""
    args = parse_args(argv)
    table = json_table(args.boxes, args.processes) if args.boxes else container_table(args)
    print(table)
    return table


def container_table(args: argparse.Namespace) -> str:
    """What one record costs in each form."""
    size = (args.width, args.height)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = [jpeg(seed, size) for seed in range(min(DIFFERENT, args.rows))]
        rows = [images[i % len(images)] for i in range(args.rows)]
        label = {
            "img_h": args.height,
            "img_w": args.width,
            "caption": CAPTION,
            "bboxes": [[5, 5, 30, 40], [40, 10, 60, 50]],
            "tokens_positive": SPANS,
            "scores": [0.9, 0.8],
        }
        kinds = {
            "GLIP TSV": write_tsv(folder, rows, label),
            "tar shard": write_tar(folder, rows, label),
            "files, json": write_files(folder, rows, label),
        }
        size_kib = sum(map(len, rows)) / len(rows) / 1024
        lines = [
            f"{args.rows} records, JPEG {args.width} x {args.height}, {size_kib:.0f} KiB each",
            "| form | first opening, s | record, ms | bytes of the image, ms | decoded image, ms |",
            "|---|---:|---:|---:|---:|",
        ]
        lines += [measured(kind, load) for kind, load in kinds.items()]
    return "\n".join(lines)


@command
def main() -> None:
    measure()


def jpeg(seed: int, size: tuple[int, int]) -> bytes:
    """Smooth noise, which is about as large as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


def write_tsv(folder: Path, rows: Sequence[bytes], label: dict) -> Callable[[], Sequence]:
    """A GLIP TSV; returns what opens it."""
    with open(folder / "img.tsv", "wb") as images, open(folder / "label.tsv", "w") as labels:
        for number, data in enumerate(rows):
            images.write(f"{number}\t".encode() + base64.b64encode(data) + b"\n")
            labels.write(f"{number}\t{json.dumps(label)}\n")
    (folder / "set.yaml").write_text("img: img.tsv\nlabel: label.tsv\n")
    return lambda: GlipTsvRecords(str(folder / "set.yaml"))


def write_tar(folder: Path, rows: Sequence[bytes], label: dict) -> Callable[[], Sequence]:
    """A WebDataset shard; returns what opens it."""
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, data in enumerate(rows):
            for suffix, content in (("jpg", data), ("json", json.dumps(label).encode())):
                member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return lambda: TarRecords(str(folder / "00000.tar"))


def write_files(folder: Path, rows: Sequence[bytes], label: dict) -> Callable[[], Sequence]:
    """Files and MDETR's json; returns what opens them."""
    (folder / "images").mkdir()
    content: dict[str, list] = {"images": [], "annotations": []}
    for number, data in enumerate(rows):
        (folder / "images" / f"{number}.jpg").write_bytes(data)
        image = {"id": number, "file_name": f"{number}.jpg", "caption": CAPTION}
        content["images"].append({**image, "height": label["img_h"], "width": label["img_w"]})
        content["annotations"] += [
            {"image_id": number, "bbox": box, "tokens_positive": spans}
            for box, spans in zip(label["bboxes"], SPANS)
        ]
    (folder / "set.json").write_text(json.dumps(content))
    return lambda: load_mdetr_json(str(folder / "set.json"), str(folder / "images"))


def measured(kind: str, load: Callable[[], Sequence]) -> str:
    """The line of one form."""
    start = time.process_time()
    records = load()
    opening = time.process_time() - start
    order = list(range(len(records)))
    random.Random(0).shuffle(order)
    found = [records[i] for i in order]
    some = found[:DECODED]
    times = [
        per_record(lambda: [records[i] for i in order], len(order)),
        per_record(lambda: [encoded(record) for record in found], len(order)),
        per_record(lambda: [read_record_image(record).shape for record in some], len(some)),
    ]
    return f"| {kind} | {opening:.2f} | " + " | ".join(f"{1000 * t:.3f}" for t in times) + " |"


def json_table(boxes: Sequence[int], processes: Sequence[int]) -> str:
    """What the loader of a COCO json costs."""
    lines = [
        "| boxes | json, MB | processes | CPU, s | most of a process, MB | together, MB |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in boxes:
            size = write_coco(folder, count) / 1e6
            for number in processes:
                torch.multiprocessing.spawn(read_in_fresh_processes, (folder, number))
                found = [json.loads(path.read_text()) for path in folder.glob("found_*.json")]
                (seconds, most), together = np.max(found, 0)[:2], np.sum(found, 0)[2]
                lines.append(
                    f"| {count} | {size:.0f} | {number} | {seconds:.1f} | {most:.0f} | "
                    f"{together:.0f} |"
                )
    return "\n".join(lines)


def write_coco(folder: Path, boxes: int) -> int:
    """A COCO json with seven boxes an image, all of one image file; returns its size in bytes."""
    rng = random.Random(0)
    (folder / "0.jpg").write_bytes(jpeg(0, (640, 480)))
    images = -(-boxes // 7)
    with open(folder / "coco.json", "w") as file:
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, 366)]
        file.write(f'{{"categories": {json.dumps(categories)}, "images": [')
        for i in range(images):
            image = {"id": i, "file_name": "0.jpg", "height": 480, "width": 640, "license": 1}
            file.write(", " * (i > 0) + json.dumps(image))
        file.write('], "annotations": [')
        for i in range(boxes):
            x, y, w, h = (round(rng.uniform(1, most), 2) for most in (300, 200, 300, 200))
            box = {"id": i, "image_id": i * 5 % images, "bbox": [x, y, w, h], "area": w * h}
            box |= {"iscrowd": 0, "category_id": rng.randint(1, 365)}
            file.write(", " * (i > 0) + json.dumps(box))
        file.write("]}")
        return file.tell()


def read_in_fresh_processes(_: int, folder: Path, number: int) -> None:
    """`read_coco` in so many processes, none of which has taken memory for anything else."""
    launch(read_coco, 0, num_processes=number, args=(folder,))


def read_coco(folder: Path) -> None:
    """Build a loader and take its first batch, in one process of several."""
    register_coco_dataset("measured", str(folder / "coco.json"), str(folder))
    comm.synchronize()
    memory = -np.array(most_and_share())
    start = time.process_time()
    loader = build_grounding_train_loader(
        "measured", mapper=dict, total_batch_size=8 * comm.get_world_size(), seed=0
    )
    next(iter(loader))
    seconds = time.process_time() - start
    comm.synchronize()
    memory += most_and_share()
    (folder / f"found_{comm.get_rank()}.json").write_text(json.dumps([seconds, *memory]))


def most_and_share() -> tuple[float, float]:
    """The memory of this process so far, MB: the most, and its share of what it has now."""
    text = "".join(Path(f"/proc/self/{file}").read_text() for file in ("status", "smaps_rollup"))
    most, share = (int(re.search(rf"^{k}:\s*(\d+) kB", text, re.M)[1]) for k in ("VmHWM", "Pss"))
    return most * 1024 / 1e6, share * 1024 / 1e6


def encoded(record: dict) -> int:
    """Reads the bytes of the image; their number."""
    source = record.get("image_source")
    return len(Path(record["file_name"]).read_bytes() if source is None else image_bytes(source))


def per_record(read: Callable[[], object], count: int) -> float:
    """Seconds per record, the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        read()
        best = min(best, time.process_time() - start)
    return best / count


if __name__ == "__main__":
    sys.exit(main())
