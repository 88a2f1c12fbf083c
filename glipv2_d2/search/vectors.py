"""The vectors of regions as they are searched: new ones one by one, older ones in faiss's lists."""

from __future__ import annotations

import math
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..files import remove_leftovers, whole_file

__all__ = ["Vectors", "list_files", "read_lists", "write_lists"]

# Of the lists, how many are looked into; of 1,000 in a million regions.
PROBES = 128


class Vectors(NamedTuple):
    """Vectors as they are searched.

    Attributes:
        lists: faiss's, of the older regions; None: there are none.
        numbers, vectors: of the regions that are not in them, (n,) int64 and (n, dim).
    """

    lists: Any
    numbers: np.ndarray
    vectors: np.ndarray

    def nearest(self, vector: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """See `RegionStore.nearest`."""
        scores = self.vectors @ vector
        if len(scores) > most:
            best = np.argpartition(-scores, most)[:most]
        else:
            best = np.arange(len(scores))
        numbers, scores = self.numbers[best], scores[best]
        if self.lists is not None:
            (of_lists,), (listed,) = self.lists.search(vector[None], most)
            found = listed >= 0
            numbers = np.concatenate([numbers, listed[found]])
            scores = np.concatenate([scores, of_lists[found]])
        order = np.argsort(-scores, kind="stable")[:most]
        return numbers[order], scores[order]

    def staleness(self, regions: int) -> float:
        """Which part of all regions is not in the lists, or only there."""
        listed = 0 if self.lists is None else self.lists.ntotal
        newer = len(self.numbers)
        return (newer + listed - (regions - newer)) / regions


def write_lists(folder: Path, end: int, numbers: np.ndarray, vectors: np.ndarray) -> None:
    """Make the inverted lists of all regions below number `end`, in place of older ones.

    Args:
        numbers, vectors: of these regions, (n,) int64 and (n, dim) float32.

    Raises:
        ModuleNotFoundError: faiss is not installed.
        OSError: the folder cannot be written.
    """
    faiss: Any = import_module("faiss")
    kind = f"IVF{round(math.sqrt(len(vectors)))},Flat"
    lists = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    lists.cp.max_points_per_centroid = 64  # a quarter of the usual, and as good
    lists.train(vectors)
    lists.add_with_ids(vectors, numbers)
    remove_leftovers(folder)
    with whole_file(folder / f"regions-{end}.faiss") as file:
        file.write(faiss.serialize_index(lists))
    for path, older in list_files(folder):
        if older != end:
            path.unlink()


def read_lists(folder: Path) -> tuple[Any, int]:
    """The lists, and the number that they end before; None and 0 where there are none."""
    path, end = max(list_files(folder), key=lambda file: file[1], default=(None, 0))
    if path is None:
        return None, 0
    faiss: Any = import_module("faiss")
    lists = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    lists.nprobe = PROBES
    return lists, end


def list_files(folder: Path) -> list[tuple[Path, int]]:
    """The files of inverted lists, and the number that each ends before."""
    files = []
    for path in folder.glob("regions-*.faiss"):
        with suppress(ValueError):
            files.append((path, int(path.stem.removeprefix("regions-"))))
    return files
