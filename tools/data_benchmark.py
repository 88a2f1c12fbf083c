#!/usr/bin/env python
"""Measure data: the start of a training and an evaluation on a large json, and data workers.

    python -m tools.data_benchmark
    python -m tools.data_benchmark --images 5000 --workers 1 2 4

The json is made, which takes a minute or two at COCO's size: as many objects, corners and classes
as COCO has, and a few photographs as JPEG, which all its images name. The first table is of the
time of the processor, without the import of Python's modules and the building of the model, each
row in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from omegaconf import DictConfig
from PIL import Image

from glipv2_d2.config import get_config
from glipv2_d2.data.images import read_record_image
from glipv2_d2.data.loading import load_records
from glipv2_d2.engine.evaluate import require_test_data
from glipv2_d2.errors import command
from tools.benchmark.settings import Settings
from tools.benchmark.workers import PeakMemory, Worker
from tools.benchmark.workload import make_inputs, prompt_names

NAME, ANNOTATIONS, FILES, BATCH = "data_benchmark", "annotations.json", 8, 4
# Of an image and a polygon, about as in COCO's train2017.
OBJECTS, CORNERS = 7, 22


@command
def main(argv: list[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", type=int, default=118_287, help="in the json; default: as COCO's train2017")
    add("--size", type=int, nargs=2, default=(800, 1216), help="height and width of the images")
    add("--config-file", default="finetune/glip_t_coco.py", help="of the loaders")
    add("--workers", type=int, nargs="+", default=[1, 2], help="numbers of data workers")
    add("--batches", type=int, default=25, help=f"of {BATCH} images, measured of each number")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), args.images, tuple(args.size), args.config_file)
        size = (Path(folder) / ANNOTATIONS).stat().st_size / 2**20
        print(f"{args.images:,} images, {args.images * OBJECTS:,} objects, {size:.0f} MiB of json")
        print("\n| start | seconds | peak, GiB |\n|---|---|---|")
        for start in (start_training, start_evaluation):
            with Worker() as worker:
                seconds, peak = worker(start, args.config_file, folder)
            what = (start.__doc__ or "").rstrip(".")
            print(f"| {what} | {seconds:.1f} | {peak:.2f} |", flush=True)
        cfg = configured(args.config_file, folder)
        print("\n| an image, ms of one core | whole | reading | augmentations | the rest |")
        print(f"|---|---|---|---|---|\n| | {' | '.join(_stages(cfg, args.batches * BATCH))} |")
        print("\n| data workers | images per second |\n|---|---|")
        for number in args.workers:
            print(f"| {number} | {_images_per_second(cfg, number, args.batches):.1f} |", flush=True)
    return 0


def write_data(folder: Path, images: int, size: tuple[int, int], config: str) -> None:
    """Photographs, and a COCO json of so many images, which are these photographs by turns."""
    for number, made in enumerate(make_inputs(Settings(config, size=size), [], FILES)):
        pixels = made["image"].flip(0).permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{number}.jpg", quality=90)
    height, width = size
    content = {
        "categories": [{"id": i, "name": name} for i, name in enumerate(prompt_names("coco"), 1)],
        "images": [
            {"id": i, "file_name": f"{i % FILES}.jpg", "height": height, "width": width}
            for i in range(images)
        ],
    }
    with open(folder / ANNOTATIONS, "w", encoding="utf-8") as file:
        # One image after the other: all at once they take gigabytes.
        file.write(json.dumps(content)[:-1] + ', "annotations": [')
        for number, annotation in enumerate(_annotations(images, size)):
            file.write((",\n" if number else "") + json.dumps(annotation))
        file.write("]}")


def _annotations(images: int, size: tuple[int, int]) -> Iterator[dict]:
    random = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=1)  # (CORNERS, 2)
    for number in range(images * OBJECTS):
        side = random.uniform(0.02, 0.6, 2) * size[::-1]
        corner = random.uniform(0, 1, 2) * (size[::-1] - side)
        polygon = corner + side * (0.5 + 0.5 * circle)
        yield {
            "id": number + 1,
            "image_id": number // OBJECTS,
            "category_id": int(random.integers(80)) + 1,
            "iscrowd": 0,
            "area": round(float(side.prod()), 2),
            "bbox": np.concatenate((corner, side)).round(2).tolist(),
            "segmentation": [polygon.round(2).ravel().tolist()],
        }


def configured(config: str, folder: str) -> DictConfig:
    """The config with the made data, which are registered, for training and test."""
    if NAME not in DatasetCatalog:
        register_coco_instances(NAME, {}, f"{folder}/{ANNOTATIONS}", folder)
    cfg = get_config(config)
    cfg.train.output_dir = folder
    cfg.dataloader.train.update(datasets=[NAME], total_batch_size=BATCH, num_workers=0)
    cfg.dataloader.test.update(dataset=NAME, num_workers=0)
    return cfg


def start_training(config: str, folder: str) -> tuple[float, float]:
    """training, to the first batch."""
    cfg = configured(config, folder)
    memory, begin = PeakMemory("cpu"), time.process_time()
    next(iter(instantiate(cfg.dataloader.train)))
    return time.process_time() - begin, memory.gb()


def start_evaluation(config: str, folder: str) -> tuple[float, float]:
    """evaluation, to the first image: checks, records, ground truth."""
    cfg = configured(config, folder)
    memory, begin = PeakMemory("cpu"), time.process_time()
    require_test_data(cfg.dataloader)
    batches = instantiate(cfg.dataloader.test)
    instantiate(cfg.dataloader.evaluator)
    next(iter(batches))
    return time.process_time() - begin, memory.gb()


def _stages(cfg: DictConfig, count: int) -> list[str]:
    """Milliseconds of the mapper, and of its steps."""
    mapper = instantiate(cfg.dataloader.train.mapper)
    records = load_records(NAME)[:count]
    mapper.prepare(NAME, records)
    rows = []
    for record in records:
        begin = time.process_time()
        image = read_record_image(record, mapper.image_format)
        read = time.process_time()
        mapper.augmentations(T.AugInput(image))
        augmented = time.process_time()
        mapper(record)
        rows.append((time.process_time() - augmented, read - begin, augmented - read))
    whole, read, augmented = (1000 * median(column) for column in zip(*rows))
    return [f"{x:.1f}" for x in (whole, read, augmented, whole - read - augmented)]


def _images_per_second(cfg: DictConfig, workers: int, batches: int) -> float:
    cfg.dataloader.train.num_workers = workers
    stream = iter(instantiate(cfg.dataloader.train))
    for _ in range(4 * workers):  # until the workers run and their queues are no longer full
        next(stream)
    begin = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return batches * BATCH / (time.perf_counter() - begin)


if __name__ == "__main__":
    sys.exit(main())
