"""A shard of pairs becomes a folder of labels: the same bytes every time, all of it or nothing."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..data.containers import image_bytes
from ..data.report import Record, RecordError
from ..errors import DataError, MissingImageError, UsageError, UserError, well_formed
from ..files import whole_folder
from ..images import image_to_array, open_image, reading_image
from ..sources import open_source
from .pairs import Columns, Shard, read_pairs
from .record import LabeledPair
from .teacher import LabeledText, Teacher
from .writers import FORMATS, EncodedImage

__all__ = [
    "MANIFEST",
    "RECORDS",
    "LabelSettings",
    "ShardSummary",
    "label_shard",
    "labeled_before",
]

MANIFEST = "manifest.json"
RECORDS = "records.jsonl"


@dataclass(frozen=True)
class LabelSettings:
    """What labels depend on, besides the pairs; of json's types.

    Attributes:
        format: of `FORMATS`.
        threshold: boxes that score less are left out.
        phrases: back end that finds the noun phrases.
        recaption: the teacher writes the captions.
        teacher: its `fingerprint`.
        columns: where the pairs stand, see `Columns`; without the folder of the images.
    """

    format: str
    threshold: float
    phrases: str
    recaption: bool
    teacher: dict[str, str]
    columns: Sequence[str]


class ShardSummary(NamedTuple):
    """What became of a shard; of json's types.

    Attributes:
        shard: its name.
        pairs: that it has, as far as they could be found.
        labeled: pairs that are written.
        phrases, boxes: of them.
        without_phrase, without_box: of the labeled ones; those without a phrase have no box either.
        errors: kind of problem -> how many pairs; `RECORDS` names them.
        failed: why nothing of the shard is written; None: it is done.
    """

    shard: str
    pairs: int = 0
    labeled: int = 0
    phrases: int = 0
    boxes: int = 0
    without_phrase: int = 0
    without_box: int = 0
    errors: dict[str, int] = {}
    failed: str | None = None


def label_shard(
    shard: Shard, output: Path, teacher: Callable[[], Teacher], settings: LabelSettings
) -> ShardSummary:
    """Label a shard into the folder `output / shard.name`, unless it is done already.

    The folder has the files of the format, `RECORDS` with a `LabeledPair` a line (also of pairs
    that could not be labeled), and `MANIFEST`. It depends on the pairs and the settings alone, and
    is there as a whole or not at all. Pairs that cannot be labeled do not stop the others.

    Args:
        shard: its folder is written by one process at a time.
        output: the folder above; it is there.
        teacher: gives the teacher; called for a shard that is not done.
        settings: what the labels depend on.

    Returns:
        What became of it; one that is missing, or without a pair that can be labeled, has `failed`:
        the disk of the images may be missing, or the column be another.

    Raises:
        OSError: its folder cannot be written, or the disk is full; nothing is left behind.
        UsageError: the shard was labeled with other settings.
    """
    try:
        pairs = shard.digest()
        if (done := _finished(shard, output, settings, pairs)) is not None:
            return done
        with whole_folder(output / shard.name) as folder:
            summary, example = _label(shard, folder, teacher(), settings)
            if not summary.labeled:
                raise DataError(f"{shard.path}: none of {summary.pairs} pairs is usable: {example}")
            manifest = {"pairs": pairs, "settings": asdict(settings), "summary": summary._asdict()}
            text = json.dumps(manifest, indent=1) + "\n"
            (folder / MANIFEST).write_text(text, encoding="utf-8")
        return summary
    except DataError as error:
        return ShardSummary(shard.name, failed=str(error))


def labeled_before(shards: Sequence[Shard], output: Path, settings: LabelSettings) -> set[str]:
    """The names of the shards that have labels already, be it of pairs that have changed since.

    Raises:
        UsageError: they were labeled by another teacher, or with other settings; or there are
            labels of rows that are in none of the shards now. It names them.
    """
    names = {shard.name for shard in shards}
    tables = {shard.name.rpartition("-")[0]: shard.path for shard in shards if shard.rows}
    for manifest in sorted(output.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        table, _, number = folder.name.rpartition("-")
        if folder.name not in names and number.isdigit() and (path := tables.get(table)):
            raise UsageError(
                f"{folder} has labels of rows of {path} that no shard has now (--rows was another, "
                "or the table was longer): who reads all shards would have pairs twice; take the "
                "same --rows, remove the folder, or give another --output"
            )
    return {shard.name for shard in shards if _manifest(shard, output, settings) is not None}


def _finished(
    shard: Shard, output: Path, settings: LabelSettings, pairs: dict[str, Any]
) -> ShardSummary | None:
    """The summary of a shard that is done; None: it is not, or its pairs have changed since."""
    manifest = _manifest(shard, output, settings)
    if manifest is None or manifest["pairs"] != pairs:
        return None
    return ShardSummary(**manifest["summary"])


def _manifest(shard: Shard, output: Path, settings: LabelSettings) -> dict[str, Any] | None:
    path = output / shard.name / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if path.parent.is_file() or (path.parent.is_dir() and any(path.parent.iterdir())):
            raise UsageError(
                f"{path.parent} is there already and was not written by this command, which would "
                "replace it: move it away, or give another --output"
            ) from None
        return None
    with well_formed(f"{path} (remove its folder, and the shard is labeled anew)"):
        manifest = json.loads(text)
        before = _flat(manifest["settings"])
    now = _flat(json.loads(json.dumps(asdict(settings))))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        what = ", ".join(f"{k} {before.get(k)!r} and now {now.get(k)!r}" for k in changed)
        raise UsageError(
            f"{path.parent} was labeled with {what}: labels of two kinds are not mixed; take the "
            "same settings, or another --output"
        )
    return manifest


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    return {**{k: v for k, v in settings.items() if k != "teacher"}, **settings["teacher"]}


def _label(
    shard: Shard, folder: Path, teacher: Teacher, settings: LabelSettings
) -> tuple[ShardSummary, str]:
    """The summary, and an error for example."""
    example = ""
    counts: dict[str, Any] = Counter()
    errors: Counter[str] = Counter()
    with (
        open(folder / RECORDS, "w", encoding="utf-8") as records,
        FORMATS[settings.format](folder) as add,
    ):
        for pair, image in _labeled_pairs(shard, teacher, settings):
            records.write(json.dumps(pair._asdict()) + "\n")
            counts["pairs"] += 1
            if image is None:
                example = example or str(pair.error)
                errors[str(pair.error).partition(":")[0]] += 1
                continue
            add(pair, image)
            counts["labeled"] += 1
            counts["phrases"] += len(pair.phrases)
            counts["boxes"] += len(pair.boxes)
            counts["without_phrase"] += not pair.phrases
            counts["without_box"] += not pair.boxes
    return ShardSummary(shard.name, errors=dict(sorted(errors.items())), **counts), example


Outcome = tuple[LabeledPair, EncodedImage | None]


def _labeled_pairs(shard: Shard, teacher: Teacher, settings: LabelSettings) -> Iterator[Outcome]:
    """Every pair in order, with its image where it is labeled."""
    read = _with_images(shard, Columns(*settings.columns))
    while batch := list(islice(read, teacher.batch_size)):
        usable = [(image, pair) for pair, image in batch if image is not None]
        labels: Iterator[LabeledText | RecordError] = iter(())
        if usable:
            labels = iter(teacher([i.pixels for i, _ in usable], [p.caption for _, p in usable]))
        for pair, image in batch:
            yield (
                (pair, None)
                if image is None
                else _labeled(pair, image, next(labels), settings.recaption)
            )


def _labeled(
    pair: LabeledPair, image: EncodedImage, label: LabeledText | RecordError, recaption: bool
) -> Outcome:
    if isinstance(label, RecordError):
        return LabeledPair.failed(pair.key, label.kind, label.what, pair.caption), None
    height, width = image.pixels.shape[:2]
    original = pair.caption if recaption else None
    found = pair._replace(height=height, width=width, original=original, **label._asdict())
    return found, image


def _with_images(shard: Shard, columns: Columns) -> Iterator[Outcome]:
    """Every pair in order, without labels, with its image where that can be read."""
    seen: set[str] = set()
    for key, record in read_pairs(shard, columns):
        caption = "" if isinstance(record, RecordError) else record["caption"]
        try:
            if isinstance(record, RecordError):
                raise record
            if key in seen:
                raise RecordError("duplicate key", shard.path, "an earlier pair has it")
            seen.add(key)
            image = _read_image(record)
        except RecordError as error:
            yield LabeledPair.failed(key, error.kind, error.what, caption), None
        else:
            yield LabeledPair(key, caption, 0, 0, [], []), image


def _read_image(record: Record) -> EncodedImage:
    """Raises: RecordError."""
    name, source = record["file_name"], record.get("image_source")
    try:
        with reading_image(name):
            data = image_bytes(source) if source is not None else _bytes(open_source(name))
            with open_image(io.BytesIO(data)) as image:
                suffix = str(image.format).lower()
                pixels = image_to_array(image, name=name)
    except MissingImageError as error:
        raise RecordError("missing image file", name, str(error)) from None
    except (UserError, OSError) as error:
        raise RecordError("corrupt image", name, str(error)) from None
    suffix = "jpg" if suffix in ("jpeg", "mpo") else suffix
    return EncodedImage(data, suffix, record.get("path"), pixels)


def _bytes(file: IO[bytes]) -> bytes:
    with file:
        return file.read()
