"""Image-text pairs in tar shards, GLIP's TSV files, and tables of paths; large ones in parts."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from ..data.checks import not_utf8
from ..data.datasets.glip_tsv import GlipTsvRecords
from ..data.datasets.tar_shards import TarRecords
from ..data.entries import file_name_problem
from ..data.report import Record, RecordError, Report
from ..errors import DataError, UsageError

__all__ = ["Columns", "Shard", "find_shards", "read_pairs"]

_TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": ""}
_YAML = (".yaml", ".yml")


class Columns(NamedTuple):
    """Where a pair stands in a row.

    Attributes:
        image: the column of a table that has the path; in a container the image has no name.
        caption: the column of a table, or the field of the json in a tar, that has the text. GLIP's
            TSV calls it "caption".
    """

    image: str = "path"
    caption: str = "caption"


class Shard(NamedTuple):
    """What is labeled as a whole: a tar file, or some rows of a table or TSV.

    Attributes:
        name: of its labels.
        path: the tar, the table, or the yaml of the TSV.
        first, rows: number of the first row, and how many; of a tar 0 and 0.
        begin, end: the bytes of its rows in a table; of a tar those of the file.
        image_root: paths of a table are relative to it.
    """

    name: str
    path: str
    first: int
    rows: int
    begin: int
    end: int
    image_root: str = ""

    def digest(self) -> dict[str, object]:
        """Size and SHA-256 of the pairs, by which changed ones are known: of the tar; of the rows
        of a table, not of the images that they name; of the label rows of a TSV, with the size of
        the image file.

        Raises:
            DataError: a file is missing or damaged.
        """
        digest = hashlib.sha256()
        size = self.end - self.begin
        if self.path.endswith(_YAML):
            records = GlipTsvRecords(self.path, min_boxes=0)
            size = os.path.getsize(records.images.path)
            for row in range(self.first, self.first + self.rows):
                digest.update(records.label_bytes(row) + b"\n")
        else:
            with _opened(self.path) as file:
                file.seek(self.begin)
                left = size
                while block := file.read(min(left, 1 << 22)):
                    digest.update(block)
                    left -= len(block)
        return {"size": size, "sha256": digest.hexdigest()}


def find_shards(paths: Sequence[str], rows: int, image_root: str = "") -> list[Shard]:
    """The shards of some files, in their order.

    Args:
        paths: `.tar` files; the `.yaml` of GLIP TSVs; tables with a header, `.csv` or `.tsv`, and
            `.jsonl`.
        rows: of a table or TSV in one shard.
        image_root: paths of tables are relative to it; "": to the folder of their table.

    Raises:
        UsageError: a file of another kind, or two with one name.
        DataError: a file is missing or cannot be read.
    """
    shards = [
        shard._replace(image_root=image_root or os.path.dirname(path))
        for path in paths
        for shard in _shards_of(path, rows)
    ]
    names: dict[str, str] = {}
    for shard in shards:
        if shard.name in names:
            raise UsageError(
                f"{names[shard.name]!r} and {shard.path!r} have one name, and so would their "
                "labels: rename one, or give them different --output folders"
            )
        names[shard.name] = shard.path
    return shards


def _shards_of(path: str, rows: int) -> Iterator[Shard]:
    stem, suffix = Path(path).stem, Path(path).suffix
    if suffix == ".tar":
        with _opened(path) as file:
            yield Shard(stem, path, 0, 0, 0, file.seek(0, os.SEEK_END))
    elif suffix in _YAML:
        count = len(GlipTsvRecords(path, min_boxes=0))
        for number, first in enumerate(range(0, count, rows)):
            yield Shard(f"{stem}-{number:05}", path, first, min(rows, count - first), 0, 0)
    elif suffix in _TABLES:
        _, begin, table = _table(path)
        first = count = 0
        end = begin
        for count, (end, _) in enumerate(table, 1):
            if count % rows == 0:
                yield Shard(f"{stem}-{first // rows:05}", path, first, rows, begin, end)
                first, begin = count, end
        if count > first:
            yield Shard(f"{stem}-{first // rows:05}", path, first, count - first, begin, end)
    else:
        raise UsageError(
            f"{path!r} holds no pairs that are known by its name: give .tar shards, the .yaml of a "
            "GLIP TSV, or a table of paths and captions, .csv, .tsv or .jsonl"
        )


def read_pairs(shard: Shard, columns: Columns) -> Iterator[tuple[str, Record | RecordError]]:
    """(key, record) of each pair, in order; a record has `file_name`, `caption`, and where its
    image is in a container `image_source`.

    A pair that cannot be read is an error in its place, as is a damage of the shard (with the key
    "").

    Raises:
        DataError: the shard is missing, or is nothing that can be read.
    """
    if Path(shard.path).suffix in _TABLES:
        yield from _pairs_of_table(shard, columns)
        return
    report = Report()
    records: TarRecords | GlipTsvRecords
    if shard.path.endswith(".tar"):
        records = TarRecords(
            shard.path, report=report, min_boxes=0, caption=columns.caption, most_damaged=1.0
        )
        rows = range(len(records))
    else:
        records = GlipTsvRecords(shard.path, report=report, min_boxes=0)
        rows = range(shard.first, shard.first + shard.rows)
    for kind, (_, what) in report.kinds.items():
        yield "", RecordError(kind, shard.path, what)
    for row in rows:
        key = records.key(row)
        try:
            yield key, records.read(row, report)
        except RecordError as error:
            yield key, error


def _pairs_of_table(shard: Shard, columns: Columns) -> Iterator[tuple[str, Record | RecordError]]:
    header, _, table = _table(shard.path, shard.begin, shard.end)
    for row, (_, cells) in enumerate(table, shard.first):
        key = f"{row:09}"
        where = f"{shard.path}: row {row}"
        try:
            fields = _json(cells[0], where) if header is None else _fields(header, cells, where)
            yield key, _pair(fields, columns, shard.image_root, where)
        except RecordError as error:
            yield key, error


def _fields(header: Sequence[str], cells: Sequence[str], where: str) -> Record:
    if any(cell.strip() for cell in cells[len(header) :]):  # else the caption would be cut off
        raise RecordError(
            "too many cells",
            where,
            f"there are {len(cells)}, and {len(header)} columns: a text with the separator in it "
            "stands in double quotes",
        )
    return dict(zip_longest(header, cells[: len(header)]))


def _pair(fields: Record, columns: Columns, root: str, where: str) -> Record:
    path, caption = fields.get(columns.image), fields.get(columns.caption)
    for name, value in zip(columns, (path, caption)):
        if value is None:
            what = "has no value" if name in fields else f"is none of {[*map(str, fields)]}"
            raise RecordError("missing field", where, f"{name!r} {what} (see --columns)")
    if problem := file_name_problem(path):
        raise RecordError("bad file name", where, f"{columns.image!r}: {problem}")
    if not isinstance(caption, str) or not caption.strip():
        raise RecordError("empty caption", where, f"the field {columns.caption!r} is empty")
    if not_utf8(caption):
        raise RecordError("caption not UTF-8", where, f"{caption[:60]!r} is not UTF-8")
    return {"file_name": os.path.join(root, str(path)), "caption": caption, "path": path}


def _json(text: str, where: str) -> Record:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("no valid json", where, f"the line is no valid json: {error}") from None
    if not isinstance(fields, dict):
        raise RecordError("no valid json", where, "the line is no json object")
    return fields


def _table(
    path: str, begin: int | None = None, end: int | None = None
) -> tuple[list[str] | None, int, Iterator[tuple[int, list[str]]]]:
    """The header (None: each row is json), where the rows begin, and (byte where it ends, cells) of
    each row between two bytes. Empty rows are passed over.

    Raises:
        DataError: no such file, or it has no header, or one that names a column twice.
    """
    header, start = None, 0
    if Path(path).suffix != ".jsonl":
        start, header = next(_rows(path, 0, None), (0, None))
        if header is None:
            raise DataError(f"{path}: the table is empty, its first row must name the columns")
        header = [cell.strip() for cell in header]
        if twice := [name for name, count in Counter(header).items() if name and count > 1]:
            raise DataError(f"{path}: its first row names the column {twice[0]!r} twice")
    return header, start, _rows(path, start if begin is None else begin, end)


def _rows(path: str, begin: int, end: int | None) -> Iterator[tuple[int, list[str]]]:
    position = begin

    def lines() -> Iterator[str]:
        nonlocal position
        for line in file:
            text = line.decode("utf-8", "surrogateescape")
            text = text if position else text.removeprefix("\ufeff")  # of an editor on Windows
            position += len(line)
            yield text

    delimiter = _TABLES[Path(path).suffix]
    with _opened(path) as file:
        file.seek(begin)
        # Only as many lines are taken as a row has.
        # Strict: else a quote that nothing closes takes all rows up to the next one for a caption.
        rows = (
            csv.reader(lines(), delimiter=delimiter, strict=True)
            if delimiter
            else ([x] for x in lines())
        )
        while end is None or position < end:
            first = position
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{path}: the row at byte {first}: {error}. A cell that begins "
                    'with a double quote ends with one, and those inside are doubled: "a ""red"" '
                    'star"'
                ) from None
            if any(cell.strip() for cell in cells):
                yield position, cells


def _opened(path: str):
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise DataError(f"there is no file {path!r}") from None
    except OSError as error:
        raise DataError(f"{path!r} cannot be read: {error.strerror}") from None
