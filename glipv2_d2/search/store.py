"""A folder with the regions of a collection: `regions.sqlite`, and what is made of it for speed.

The database is the truth. It has a row for each image, with the boxes and vectors of its regions.
Images are added in transactions, so that a kill loses no more than the batch that is being
embedded. The number of a region is never given to another.

From `EXACT_MOST` regions on, `regions-N.faiss` has the vectors in inverted lists (faiss's
IndexIVFFlat) of all regions below number N. It is made of the database as a whole, written aside
and renamed; what came later is compared one by one, and what is gone is left out of the results.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import batched_nms

from ..errors import DataError, UsageError
from ..files import remove_leftovers, whole_file
from ..sources import stamp
from .vectors import Vectors, list_files, read_lists, write_lists

__all__ = ["ImageRegions", "Match", "RegionStore"]

VERSION = 1
# Up to so many regions, all are compared: a millisecond.
EXACT_MOST = 20_000
# Part of the regions that may be newer than the lists, or gone, before these are made anew.
STALE_MOST = 0.1
# Of regions of an image that overlap by more only the best is a result.
SAME_IOU = 0.5

_TABLES = f"""
CREATE TABLE about (
    fingerprint TEXT, dim INTEGER, made_by TEXT, next_region INTEGER
);
CREATE TABLE images (
    file TEXT PRIMARY KEY, stamp TEXT, height INTEGER, width INTEGER,
    first_region INTEGER, regions INTEGER, boxes BLOB, scores BLOB, embeddings BLOB
);
CREATE INDEX by_region ON images (first_region) WHERE regions > 0;
PRAGMA user_version = {VERSION};
"""


class ImageRegions(NamedTuple):
    """The n regions of an image.

    Attributes:
        file: its name, see `glipv2_d2.sources`.
        stamp: see there.
        height, width: of the image.
        boxes: (n, 4) float32, xyxy in its pixels.
        scores: (n,) float32, of the detector; None: there was none.
        embeddings: (n, dim) float32, of unit length.
    """

    file: str
    stamp: list[int] | None
    height: int
    width: int
    boxes: np.ndarray
    scores: np.ndarray | None
    embeddings: np.ndarray


class Match(NamedTuple):
    """A region that was found.

    Attributes:
        region: its number.
        file, height, width, box: see `ImageRegions`.
        score: how well it fits what was sought: the cosine of the two vectors.
        detection_score: of the detector; None: there was none.
    """

    region: int
    file: str
    height: int
    width: int
    box: list[float]
    score: float
    detection_score: float | None


class RegionStore:
    """The folder, opened.

        with RegionStore(folder) as store:
            (matches,) = store.search(embedder.embed_texts(["red star"]), top=10)

    Args:
        folder: of an index.

    Attributes:
        fingerprint, dim: of the `RegionEmbedder`.
        made_by: how to build it again.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._database = self.folder / "regions.sqlite"
        if not self._database.is_file():
            raise DataError(f"there is no index in '{folder}': `glip index` makes one")
        with self._telling():
            # For writing, too: what a killed process left half written is taken back.
            address = f"{self._database.resolve().as_uri()}?mode=rw"
            self._rows = sqlite3.connect(address, uri=True, check_same_thread=False)
        (version,) = self._one("PRAGMA user_version")
        if version != VERSION:
            raise DataError(
                f"the index '{folder}' is of version {version}, and this is for version {VERSION}: "
                "make it anew, with `glip index` and another --output"
            )
        about = self._one("SELECT fingerprint, dim, made_by FROM about")
        self.fingerprint: str = about[0]
        self.dim: int = about[1]
        self.made_by: dict[str, Any] = json.loads(about[2])
        self._loaded: tuple[int, Vectors] | None = None

    @classmethod
    def for_writing(
        cls, folder: str | Path, fingerprint: str, dim: int, made_by: Mapping[str, Any]
    ) -> RegionStore:
        """The index in a folder, a new one where there is none.

        Raises:
            UsageError: the one that is there is of another embedder.
            DataError: see the class. OSError: the folder cannot be written.
        """
        path = Path(folder)
        if not (path / "regions.sqlite").exists():
            path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            for lists, _ in list_files(path):  # of a database that somebody has removed
                lists.unlink()
            with whole_file(path / "regions.sqlite") as file:
                rows = sqlite3.connect(file.name)
                rows.executescript(_TABLES)
                about = (fingerprint, dim, json.dumps(made_by), 0)
                rows.execute("INSERT INTO about VALUES (?, ?, ?, ?)", about)
                rows.commit()
                rows.close()
        store = cls(folder)
        if store.fingerprint != fingerprint:
            keys = {**store.made_by, **made_by}
            other = [k for k in keys if store.made_by.get(k) != made_by.get(k)]
            raise UsageError(
                f"the index '{folder}' was made with another {', '.join(other) or 'model'}, and "
                "its regions cannot be compared with those: give another --output, or the model "
                "and settings that it was made with"
            )
        if store.made_by != made_by:  # the same model, in another place
            with store._telling(), store._rows:
                store._rows.execute("UPDATE about SET made_by = ?", [json.dumps(made_by)])
            store.made_by = dict(made_by)
        return store

    def __enter__(self) -> RegionStore:
        return self

    def __exit__(self, *_: Any) -> None:
        self._rows.close()

    def stamps(self) -> dict[str, list[int] | None]:
        """The stamp of each image."""
        with self._telling():
            rows = self._rows.execute("SELECT file, stamp FROM images")
            return {file: json.loads(stamp) for file, stamp in rows}

    def changed(self, files: Iterable[str]) -> list[str]:
        """Those of these images that have changed since they were added, or are gone."""
        query = "SELECT stamp FROM images WHERE file = ?"
        stamps = {file: self._one(query, file)[0] for file in files}
        return [file for file, before in stamps.items() if json.loads(before) != stamp(file)]

    def counts(self) -> tuple[int, int]:
        """How many images and regions there are."""
        images, regions = self._one("SELECT count(*), sum(regions) FROM images")
        return images, regions or 0

    def add(self, images: Iterable[ImageRegions]) -> None:
        """Add images, all of them or none; what was known of them before is replaced."""
        self._loaded = None
        with self._telling(), self._rows:
            self._rows.execute("BEGIN IMMEDIATE")  # or two processes might give one number
            (number,) = self._one("SELECT next_region FROM about")
            for image in images:
                scores = b"" if image.scores is None else _bytes(image.scores)
                self._rows.execute(
                    "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(image.file, json.dumps(image.stamp), image.height, image.width),
                        *(number, len(image.boxes)),
                        *(_bytes(image.boxes), scores, _bytes(image.embeddings)),
                    ),
                )
                number += len(image.boxes)
            self._rows.execute("UPDATE about SET next_region = ?", [number])

    def remove(self, files: Iterable[str]) -> None:
        """Forget images."""
        self._loaded = None
        with self._telling(), self._rows:
            self._rows.executemany("DELETE FROM images WHERE file = ?", ((f,) for f in files))

    def match(self, region: int, score: float = 1.0) -> Match | None:
        """The region of a number; None: it is gone."""
        row = self._one(
            "SELECT first_region, regions, file, height, width, boxes, scores FROM images "
            "WHERE regions > 0 AND first_region <= ? ORDER BY first_region DESC LIMIT 1",
            region,
        )
        if row is None or region >= row[0] + row[1]:
            return None
        index = region - row[0]
        box = [round(x, 2) for x in _floats(row[5]).reshape(-1, 4)[index].tolist()]
        detection_score = float(_floats(row[6])[index]) if row[6] else None
        file, height, width = row[2:5]
        return Match(region, file, height, width, box, score, detection_score)

    def search(self, vectors: np.ndarray, top: int) -> list[list[Match]]:
        """The regions that are most like each vector, best first.

        Args:
            vectors: (q, dim) float32, of unit length.
            top: most results of each. Of regions of an image that overlap only the best is one.
        """
        return [self._search(vector, top) for vector in vectors]

    def nearest(self, vector: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the regions most like a vector, best first, and the cosines.

        Of regions that are gone some may be among them.
        """
        return self._vectors().nearest(vector, most)

    def build(self) -> None:
        """Make the inverted lists, where there are many regions and the lists are not fresh.

        Raises:
            ModuleNotFoundError: faiss is not installed.
            OSError: the folder cannot be written.
        """
        _, regions = self.counts()
        if regions <= EXACT_MOST or self._vectors().staleness(regions) <= STALE_MOST:
            return
        (end,) = self._one("SELECT next_region FROM about")
        write_lists(self.folder, end, *self._read_vectors(0))
        self._loaded = None

    def _search(self, vector: np.ndarray, top: int) -> list[Match]:
        most = 8 * top
        while True:
            numbers, scores = self.nearest(vector, most)
            found = [self.match(*pair) for pair in zip(numbers.tolist(), scores.tolist())]
            matches = _best_of_overlapping([match for match in found if match is not None])
            if len(matches) >= top or len(numbers) < most:
                return matches[:top]
            most *= 4

    def _vectors(self) -> Vectors:
        """The vectors, read again where another process has changed them."""
        (state,) = self._one("PRAGMA data_version")
        if self._loaded is None or self._loaded[0] != state:
            lists, end = read_lists(self.folder)
            self._loaded = state, Vectors(lists, *self._read_vectors(end))
        return self._loaded[1]

    def _read_vectors(self, begin: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and vectors of the regions from a number on."""
        with self._telling():
            rows = self._rows.execute(
                "SELECT first_region, regions, embeddings FROM images "
                "WHERE regions > 0 AND first_region >= ? ORDER BY first_region",
                [begin],
            ).fetchall()
        numbers = [np.arange(first, first + n) for first, n, _ in rows]
        vectors = _floats(b"".join(row[2] for row in rows)).reshape(-1, self.dim)
        return np.concatenate([np.arange(0), *numbers]), vectors

    def _one(self, query: str, *values: Any) -> Any:
        with self._telling():
            return self._rows.execute(query, values).fetchone()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What goes wrong in SQLite, as a DataError that names the index."""
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(
                f"the index '{self.folder}' cannot be used: {error}; if it is damaged, remove it "
                "and make it anew with `glip index`"
            ) from error


def _best_of_overlapping(matches: Sequence[Match]) -> list[Match]:
    """Of regions of one image that overlap the best; best first."""
    if not matches:
        return []
    images = {file: i for i, file in enumerate(dict.fromkeys(m.file for m in matches))}
    kept = batched_nms(
        torch.tensor([match.box for match in matches]),
        torch.tensor([match.score for match in matches]),
        torch.tensor([images[match.file] for match in matches]),
        SAME_IOU,
    )
    return [matches[i] for i in kept.tolist()]


def _bytes(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _floats(values: bytes) -> np.ndarray:
    return np.frombuffer(values, dtype="<f4")
