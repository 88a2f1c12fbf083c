"""The records of registered data sets: read, checked, and stored for training."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.utils.file_io import PathManager

from ..errors import DataError
from ..language.class_names import alike_warning
from .checks import check_records, image_file, not_utf8
from .counters import Counters
from .datasets.coco_like import load_coco_style_json
from .datasets.phrase_classes import detection_classes
from .datasets.phrasecut import with_whole_masks
from .datasets.refexp import without_images
from .mappers.grounding import absent_class_ids
from .patterns import refuse_patterns, refuse_what_is_left
from .problems import ProblemLog, RecordError, problem_log
from .records import CheckedRecords, LazyRecords
from .samplers import MOST_UNUSABLE
from .shared_records import SharedRecords, share_records

Record = dict[str, Any]
Extras = TypeVar("Extras")

LEFT_OUT = "annotations or masks that cannot be used, left out"
# What Detectron2's readers raise for files that are not as they should be.
REFUSED = (KeyError, ValueError, AssertionError, TypeError, AttributeError, OverflowError)
# So many records of a lazy data set are checked, and so many image files of another one looked for,
# before the training begins.
LOOKED_AT = 256


def load_records(
    name: str,
    *,
    invalid: str = "drop",
    check_files: bool = False,
    drop_records: bool = True,
) -> list[Record]:
    """The checked records of a registered data set, each with its `dataset_name`.

    Args:
        name: in `DatasetCatalog`.
        invalid, check_files, drop_records: see
            `check_records`. What the reader and the checks leave out
            is logged in one line.

    Raises:
        DataError: the name is unknown, the annotation file is missing, or a record is invalid
            and that stops.
    """
    with problem_log(f"data set {name!r}", invalid, drop_records):
        records = read_dataset(name, invalid)
        return checked_records(name, records, invalid, check_files, drop_records)


def checked_records(
    name: str,
    records: Sequence[Record],
    invalid: str,
    check_files: bool = False,
    drop_records: bool = True,
) -> list[Record]:
    """What `read_dataset` gave, checked; see `load_records`."""
    checked = check_records(
        records,
        name,
        source=_source(name),
        num_classes=_num_classes(name),
        invalid=invalid,
        check_files=check_files,
        drop_records=drop_records,
    )
    for index, record in enumerate(checked):
        checked[index] = {**record, "dataset_name": name}
    return checked


def _num_classes(name: str) -> int | None:
    names = detection_classes(name)
    return None if names is None else len(names)


def _source(name: str) -> str | None:
    source = MetadataCatalog.get(name).get("json_file")
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def stored_records(
    name: str,
    invalid: str,
    check_files: bool,
    counters: Counters,
    excluded: set[str],
    with_masks: bool = False,
) -> Sequence[Record]:
    """Records for training: read once per machine and shared, or lazy ones as they are.

    One data set at a time: its Python objects are gone when those of the next are made.

    Args:
        name, invalid, check_files: see `load_records`.
        counters: has the name `LEFT_OUT`.
        excluded: images that are left out, see
            `record_image_key`.
        with_masks: masks will be trained on; those of PhraseCut are then taken from its own file
            (`refer_json` of the metadata).
    """

    lazy: LazyRecords | None = None

    def read() -> tuple[Iterable[Record], bool]:
        nonlocal lazy
        with problem_log(f"data set {name!r}", invalid):
            records = read_dataset(name, invalid)
            if with_masks and (refer_json := MetadataCatalog.get(name).get("refer_json")):
                records = with_whole_masks(records, name, refer_json)
            _require_annotations(name, records)
            if isinstance(records, LazyRecords):
                lazy = records
                return (), True
            kept = checked_records(name, records, invalid, check_files)
        del records
        _require_images(kept, name)
        kept = _without_questionless(kept, name)
        if excluded:
            before = len(kept)
            kept = without_images(kept, excluded)
            logging.getLogger(__name__).info(
                "data set %r: %d records of excluded images left out", name, before - len(kept)
            )
        if not kept:
            raise DataError(f"data set {name!r}: no image is left to train on")
        return _taken_from(kept), False

    records, is_lazy = shared_dataset(name, read)
    if is_lazy:  # an index, which the first process has written to the disk
        lazy = lazy or cast(LazyRecords, read_dataset(name, invalid))
        return _lazy_records(name, lazy, invalid, counters, excluded)
    return records


def shared_dataset(
    name: str, read: Callable[[], tuple[Iterable[Record], Extras]]
) -> tuple[SharedRecords, Extras]:
    """`share_records` for a registered data set: what reading leaves in its metadata is shared."""
    metadata = MetadataCatalog.get(name)

    def read_with_metadata() -> tuple[Iterable[Record], tuple[Extras, dict[str, Any]]]:
        known = metadata.as_dict()
        records, extras = read()
        return records, (extras, {k: v for k, v in metadata.as_dict().items() if k not in known})

    records, (extras, fields) = share_records(read_with_metadata)
    metadata.set(**fields)
    return records, extras


def _taken_from(records: list[Record]) -> Iterator[Record]:
    """The records in their order; each is gone from the list when the next is made."""
    records.reverse()
    while records:
        yield records.pop()


def _require_annotations(name: str, records: Sequence[Record]) -> None:
    if isinstance(records, LazyRecords) or not records:
        return
    if any("annotations" in record or "caption" in record for record in records):
        return
    source = f" ({_source(name)})" if _source(name) else ""
    raise DataError(
        f"data set {name!r}{source} has no annotations, so it cannot be trained on: it is a test "
        "set whose truth is kept by its server. Train on another split"
    )


def _require_images(records: Sequence[Record], name: str) -> None:
    """Look for some image files, evenly spread, before the training begins."""
    looked_at = records[:: max(len(records) // LOOKED_AT, 1)]
    missing = [r["file_name"] for r in looked_at if not PathManager.exists(image_file(r))]
    if not missing:
        return
    what = (
        f"data set {name!r}: {len(missing)} of {len(looked_at)} image files that were looked at "
        f"do not exist, the first: {missing[0]!r}"
    )
    if len(missing) > MOST_UNUSABLE * len(looked_at):
        raise DataError(
            f"{what}. More than {MOST_UNUSABLE:.0%} stop the run. Is the image folder right, and "
            "complete? Otherwise take these images out of the annotation file"
        )
    logging.getLogger(__name__).warning("%s; other images will take their place", what)


def _lazy_records(
    name: str, records: LazyRecords, invalid: str, counters: Counters, excluded: set[str]
) -> CheckedRecords:
    """Lazy records, of which some that lie evenly in the file are checked now."""
    if not len(records):
        raise DataError(f"{records.source} ({name}) has no records")
    count = _num_classes(name)
    numbers = range(0, len(records), max(len(records) // LOOKED_AT, 1))
    with problem_log(f"data set {name!r}", invalid) as log:
        early = CheckedRecords(records, name, count, log, excluded)
        looked_at = []
        for index in numbers:
            try:
                looked_at.append(early[index])
            except RecordError as error:
                log.unusable(error)
        if log.records >= len(numbers):
            raise DataError(
                f"data set {name!r}: none of {len(numbers)} records that were looked at can be "
                f"used: {log.summary()}"
            )
        where = f"{records.source} ({name}), {len(numbers)} records looked at"
        refuse_patterns(looked_at, where)
        refuse_what_is_left(looked_at, log, where)
    logging.getLogger(__name__).info(
        "data set %r: %d of %d records looked at, the others are checked when they are read",
        name,
        len(numbers),
        len(records),
    )
    return CheckedRecords(records, name, count, _CountingLog(invalid, counters), excluded)


class _CountingLog(ProblemLog):
    """What a data worker leaves out goes into counters that all workers share."""

    def __init__(self, mode: str, counters: Counters):
        super().__init__(mode)
        self.counters = counters

    def annotation(self, kind: str, where: str, what: str) -> None:
        if self.mode == "raise":
            super().annotation(kind, where, what)
        self.counters.add(LEFT_OUT, 1, f"{kind}; {where}: {what}")

    def mask(self, kind: str, where: str, what: str) -> None:
        self.annotation(kind, where, what)


def read_dataset(name: str, invalid: str) -> Sequence[Record]:
    """The records of a registered data set as its reader gives them, not checked.

    Classes that the model cannot tell apart are warned of.

    Args:
        name: in `DatasetCatalog`.
        invalid: `"drop"`: a COCO json that Detectron2's reader refuses is read by ours.

    Raises:
        DataError: the name is unknown, or the data set cannot be read.
    """
    with problem_log(f"data set {name!r}") as log:
        records = _read(name, invalid)
        if detection_classes(name):
            log.warn(alike_warning(MetadataCatalog.get(name)))
    return records


def _read(name: str, invalid: str) -> Sequence[Record]:
    if name not in DatasetCatalog.list():
        raise DataError(
            f"there is no data set named {name!r}: register it first, for instance with "
            "glipv2_d2.data.register_coco_dataset or register_grounding_dataset"
        )
    try:
        if _detectron2_coco(name):
            # Its reader lets the last of two images with one id have the boxes of both.
            metadata = MetadataCatalog.get(name)
            return load_coco_style_json(_source(name), os.fspath(metadata.image_root), name)
        records = DatasetCatalog.get(name)
        _check_class_names(name)
        return records if isinstance(records, Sequence) else list(records)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"the annotation file of data set {name!r} is missing: {error.filename or error}"
        ) from error
    except REFUSED as error:
        source = _source(name)
        unannotated = isinstance(error, KeyError) and error.args == ("annotations",)
        if (invalid == "drop" or unannotated) and _readable_by_us(name):
            # Detectron2's readers stop at the first fault, and LVIS's at a test set without truth;
            # ours leaves faults out and counts them.
            metadata = MetadataCatalog.get(name)
            lvis = metadata.evaluator_type == "lvis"  # its class names come with Detectron2
            return load_coco_style_json(
                source, os.fspath(metadata.image_root), None if lvis else name, coco_urls=lvis
            )
        # Detectron2's loaders name the problem ("Encountered category_id=7 but ..."), not the file.
        reason = error.args[0] if error.args else error
        if isinstance(error, KeyError) and " " not in str(reason):
            reason = f"the field {reason!r} is missing"
        raise DataError(
            f"the annotations of data set {name!r}"
            + (f" ({source})" if source else "")
            + f" cannot be loaded: {reason}"
        ) from error


def _check_class_names(name: str) -> None:
    """Detectron2's reader takes any; ours has looked at them."""
    for number, text in enumerate(detection_classes(name) or ()):
        if not isinstance(text, str) or not text.strip() or not_utf8(text):
            raise DataError(
                f"data set {name!r} ({_source(name)}): the name of class {number} is {text!r}, "
                "which is empty or no text"
            )


def _detectron2_coco(name: str) -> bool:
    """Whether Detectron2's COCO reader would give the records that ours gives for a sound file."""
    return (
        getattr(DatasetCatalog[name], "__module__", None) == load_coco_json.__module__
        and MetadataCatalog.get(name).get("evaluator_type") == "coco"
        and MetadataCatalog.get(name).get("keypoint_names") is None  # which it moves by a half
        and _readable_by_us(name)
    )


def _readable_by_us(name: str) -> bool:
    metadata = MetadataCatalog.get(name)
    return (
        metadata.get("evaluator_type") in ("coco", "lvis")
        and _source(name) is not None
        and isinstance(metadata.get("image_root"), (str, os.PathLike))
    )


def _without_questionless(records: list[Record], name: str) -> list[Record]:
    """Federated images about which nothing is known (no box, no absent class) cannot be asked."""
    kept = [
        r
        for r in records
        if "caption" in r
        or any(not a.get("iscrowd", 0) for a in r.get("annotations", ()))
        or absent_class_ids(r, name) is None
        or absent_class_ids(r, name)
    ]
    if len(kept) < len(records):
        logging.getLogger(__name__).warning(
            "data set %r: %d images without boxes and without verified-absent classes left out",
            name,
            len(records) - len(kept),
        )
    return kept
