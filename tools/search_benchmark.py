#!/usr/bin/env python
"""Measure region search: recall and latency of an index against brute force.

    python -m tools.search_benchmark --regions 10000 1000000

The regions are made: unit vectors around centers, as objects are around their names. Brute force is
one matrix product and numpy's `argpartition`; both sides run in this process, by turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glipv2_d2.errors import command
from glipv2_d2.search.store import ImageRegions, RegionStore

PER_IMAGE = 20
PER_CENTER = 1000


@command
def main(argv: list[str] | None = None) -> int:
    """Measure; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--regions", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=64, help="length of a vector")
    parser.add_argument("--noise", type=float, default=1.0, help="length of it, around a center")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--top", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    print("| regions | on disk | adding | lists | opening | recall | brute force | index |")
    print("|---|---|---|---|---|---|---|---|")
    for count in args.regions:
        with tempfile.TemporaryDirectory() as folder:
            print(_row(args, count, Path(folder)), flush=True)
    return 0


def _row(args: argparse.Namespace, count: int, folder: Path) -> str:
    random = np.random.default_rng(args.seed)
    centers = random.standard_normal((max(count // PER_CENTER, 10), args.dim))
    own = random.integers(len(centers), size=count + args.queries)
    made = _units(centers)[own] + args.noise * _units(random.standard_normal((len(own), args.dim)))
    vectors, queries = np.split(_units(made).astype(np.float32), [count])
    times = []
    with RegionStore.for_writing(folder, "synthetic", args.dim, {}) as store:
        times.append(_seconds(lambda: store.add(_images(vectors))))
        times.append(_seconds(store.build))
    with RegionStore(folder) as store:
        times.append(_seconds(lambda: store.nearest(queries[0], args.top)))
        brute, index, recall = [], [], 0.0
        for query in queries:
            begin = time.perf_counter()
            similarities = vectors @ query
            best = np.argpartition(-similarities, args.top)[: args.top]
            middle = time.perf_counter()
            numbers, _ = store.nearest(query, args.top)
            brute.append(middle - begin)
            index.append(time.perf_counter() - middle)
            recall += len(np.intersect1d(best, numbers)) / args.top / len(queries)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    cells = [f"{count:,}", f"{size:.0f} MB", *(f"{t:.1f} s" for t in times), f"{recall:.3f}"]
    cells += [f"{1000 * np.median(t):.2f} ms" for t in (brute, index)]
    return f"| {' | '.join(cells)} |"


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _images(vectors: np.ndarray) -> Iterator[ImageRegions]:
    box = np.array([0, 0, 1, 1], dtype=np.float32)
    for i in range(0, len(vectors), PER_IMAGE):
        own = vectors[i : i + PER_IMAGE]
        yield ImageRegions(f"{i}.jpg", None, 1, 1, np.tile(box, (len(own), 1)), None, own)


def _seconds(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
