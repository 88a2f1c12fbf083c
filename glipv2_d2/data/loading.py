"""The records of registered data sets: read, checked, and stored for training."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, TypeVar

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from .. import compat
from ..errors import DataError
from ..language.class_names import alike_warning, detection_classes
from ..language.negatives import absent_class_ids
from .checks import check_records, image_file, not_utf8
from .datasets.coco_like import load_coco_style_json
from .datasets.phrasecut import with_whole_masks
from .datasets.refexp import without_images
from .patterns import refuse_patterns, refuse_what_is_left
from .reader import Reader, RecordIndex, collector_paused, evenly
from .records import Records, num_classes
from .report import Record, Report, reported
from .samplers import MOST_UNUSABLE
from .shared_records import SharedRecords, of_all_processes, share_records

Extras = TypeVar("Extras")

# What Detectron2's readers raise for files that are not as they should be.
REFUSED = (KeyError, ValueError, AssertionError, TypeError, AttributeError, OverflowError)
# So many records of an index are checked, and so many image files of another data set looked for,
# before the training begins.
LOOKED_AT = 256


@collector_paused()
def load_records(
    name: str,
    *,
    invalid: str = "drop",
    check_files: bool = False,
    drop_records: bool = True,
    with_masks: bool = True,
) -> list[Record]:
    """The checked records of a registered data set, each with its `dataset_name`.

    Args:
        name: in `DatasetCatalog`.
        invalid, check_files, drop_records: see `check_records`. What the reader and the checks
            leave out is logged in one line.
        with_masks: see `read_dataset`.

    Raises:
        DataError: the name is unknown, the annotation file is missing, or a record is invalid
            and that stops.
    """
    report = Report(f"data set {name!r}", invalid, drop_records)
    found = read_dataset(name, report, with_masks=with_masks)
    records = checked_records(name, found, report, check_files)
    report.log()
    return records


def checked_records(
    name: str, records: Sequence[Record], report: Report, check_files: bool = False
) -> list[Record]:
    """What `read_dataset` gave, checked; see `load_records`."""
    checked = check_records(
        records.usable(report) if isinstance(records, RecordIndex) else records,
        name,
        source=_metadata_path(name, "json_file"),
        num_classes=num_classes(name),
        check_files=check_files,
        report=report,
    )
    for index, record in enumerate(checked):
        checked[index] = {**record, "dataset_name": name}
    return checked


def training_records(
    name: str,
    running: Report,
    *,
    check_files: bool = False,
    excluded: Set[str] = frozenset(),
    with_masks: bool | None = None,
) -> Records:
    """Records for training: read once per machine and shared, or read when they are asked for.

    All processes of a job must call it. One data set at a time: its Python objects are gone when
    those of the next are made.

    Args:
        name, check_files: see `load_records`.
        running: takes what is left out while the training runs; has the mode for the reading, too.
        excluded: images that are left out, see `record_image_key`.
        with_masks: masks will be trained on; those of PhraseCut are then taken from its own file
            (`refer_json` of the metadata). False: they will not, and what is stored has none; None:
            it is not known.

    Raises:
        DataError: as `load_records`; also if there is nothing to train on.
    """
    report = Report(f"data set {name!r}", running.mode)
    index: Sequence[Record] | None = None

    def read() -> tuple[Iterable[Record], bool | None]:
        nonlocal index
        found = read_dataset(name, report, with_masks=with_masks is not False)
        if isinstance(found, RecordIndex):
            index = found
            return (), None
        if with_masks and (refer_json := MetadataCatalog.get(name).get("refer_json")):
            found = with_whole_masks(found, name, refer_json)
        _require_annotations(name, found)
        kept = checked_records(name, found, report, check_files)
        del found
        report.log()
        kept = _to_train_on(name, kept, excluded)
        return _taken_from(kept, with_masks is not False), any(map(_teaches, kept))

    stored, teaches = shared_dataset(name, read)
    if teaches is not None:
        return Records(stored, name, running, with_masks=bool(with_masks), teaches=teaches)
    if index is None:  # only the first process of a machine has read it
        index = read_dataset(name, report)
    _require_usable(Records(index, name, running, excluded=excluded), report)
    report.log()
    return Records(index, name, running, excluded=excluded, with_masks=bool(with_masks))


def shared_dataset(
    name: str, read: Callable[[], tuple[Iterable[Record], Extras]]
) -> tuple[SharedRecords, Extras]:
    """`share_records` for a registered data set: what reading leaves in its metadata is shared."""
    metadata = MetadataCatalog.get(name)
    # Of all processes: the first may have read the set before, alone, as `require_test_images`.
    known = set.intersection(*map(set, of_all_processes([*metadata.as_dict()])))

    def read_with_metadata() -> tuple[Iterable[Record], tuple[Extras, dict[str, Any]]]:
        records, extras = read()
        return records, (extras, {k: v for k, v in metadata.as_dict().items() if k not in known})

    records, (extras, fields) = share_records(read_with_metadata)
    metadata.set(**fields)
    return records, extras


def _taken_from(records: list[Record], masks: bool) -> Iterator[Record]:
    """The records in their order; each is gone from the list when the next is made.

    Without masks, which are most of what is stored, and of what a data worker reads for an image.
    """
    records.reverse()
    while records:
        record = records.pop()
        if not masks and "annotations" in record:
            bare = [
                {key: value for key, value in annotation.items() if key != "segmentation"}
                for annotation in record["annotations"]
            ]
            record = {**record, "annotations": bare}
        yield record


def _to_train_on(name: str, records: list[Record], excluded: Set[str]) -> list[Record]:
    """The checked records that can be asked for, without excluded images."""
    _require_images(records, name)
    log = logging.getLogger(__name__)
    kept = [r for r in records if "caption" in r or _has_box(r) or absent_class_ids(r, name) != []]
    if len(kept) < len(records):  # federated images about which nothing is known
        text = "data set %r: %d images without boxes and without verified-absent classes left out"
        log.warning(text, name, len(records) - len(kept))
    if excluded:
        before = len(kept)
        kept = without_images(kept, excluded)
        log.info("data set %r: %d records of excluded images left out", name, before - len(kept))
    if not kept:
        raise DataError(f"data set {name!r}: no image is left to train on")
    return kept


def _require_usable(records: Records, report: Report) -> None:
    """Check some records of an index before the training begins."""
    looked_at = min(LOOKED_AT, len(records))
    sound = list(records.usable(report, evenly(len(records), LOOKED_AT)))
    where = f"{records.source} ({records.name})"
    if not len(records):
        raise DataError(f"{where} has no records")
    if not sound:
        raise DataError(
            f"{where}: none of {looked_at} records that were looked at can be used: "
            f"{report.summary()}"
        )
    where = f"{where}, {looked_at} records looked at"
    refuse_patterns(sound, where)
    refuse_what_is_left(sound, report, where)


def _require_annotations(name: str, records: Sequence[Record]) -> None:
    if not records or any(map(is_annotated, records)):
        return
    source = _metadata_path(name, "json_file")
    raise DataError(
        f"data set {name!r}{f' ({source})' if source else ''} has no annotations, so it cannot be "
        "trained on: it is a test set whose truth is kept by its server. Train on another split"
    )


def is_annotated(record: Record) -> bool:
    """Whether a record says what is to be learned from it, as those of a test set need not."""
    if record.get("task") == "question":
        return "answers" in record
    return "annotations" in record or "caption" in record


def _require_images(records: Sequence[Record], name: str) -> None:
    """Look for some image files, evenly spread, before the training begins."""
    looked_at = [records[i] for i in evenly(len(records), LOOKED_AT)]
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


def _has_box(record: Record) -> bool:
    return any(not a.get("iscrowd", 0) for a in record.get("annotations", ()))


def _teaches(record: Record) -> bool:
    """Whether a record has a box, classes that are verified to be absent, or a task of its own."""
    return _has_box(record) or bool(record.get("neg_category_ids")) or "task" in record


@collector_paused()
def read_dataset(
    name: str, report: Report | None = None, *, with_masks: bool = True
) -> Sequence[Record]:
    """The records of a registered data set as its reader gives them, not checked.

    Classes that the model cannot tell apart are warned of.

    Args:
        name: in `DatasetCatalog`.
        report: takes what is left out; one of its own by default, which is logged. In mode
            `"drop"` a COCO json that Detectron2's reader refuses is read by ours.
        with_masks: False: nobody will look at the masks, and a COCO json is read without them.

    Raises:
        DataError: the name is unknown, or the data set cannot be read.
    """
    if name not in DatasetCatalog.list():
        raise DataError(
            f"there is no data set named {name!r}: register it first, for instance with "
            "glipv2_d2.data.register_detection_dataset or register_grounding_dataset"
        )
    with reported(f"data set {name!r}", report) as report:
        try:
            records = _read(name, report, with_masks)
        except DataError:
            raise
        except FileNotFoundError as error:
            raise DataError(
                f"the annotation file of data set {name!r} is missing: {error.filename or error}"
            ) from error
        except REFUSED as error:
            records = _read_refused(name, report, error, with_masks)
        if detection_classes(name):
            report.warn(alike_warning(MetadataCatalog.get(name)))
    return records


def _read(name: str, report: Report, with_masks: bool) -> Sequence[Record]:
    registered = DatasetCatalog[name]
    if isinstance(registered, Reader):
        return registered.read(report, with_masks)
    metadata = MetadataCatalog.get(name)
    # Detectron2's reader lets the last of two images with one id have the boxes of both. The
    # keypoints of a data set it moves by a half.
    keypoints = metadata.get("keypoint_names") is not None
    if compat.registers_coco(registered) and not keypoints and _readable_by_us(name) == "coco":
        return _read_coco(name, report, with_masks)
    records = DatasetCatalog.get(name)
    _check_class_names(name)
    return records if isinstance(records, Sequence) else list(records)


def _read_coco(name: str, report: Report, with_masks: bool) -> list[Record]:
    """By our reader, from what the metadata says."""
    json_file, image_root = (_metadata_path(name, key) for key in ("json_file", "image_root"))
    lvis = MetadataCatalog.get(name).evaluator_type == "lvis"  # class names come with Detectron2
    assert json_file is not None and image_root is not None  # see _readable_by_us
    vocabulary = None if lvis else name
    return load_coco_style_json(
        json_file,
        image_root,
        vocabulary,
        coco_urls=lvis,
        report=report,
        with_masks=with_masks,
    )


def _read_refused(name: str, report: Report, error: Exception, with_masks: bool) -> list[Record]:
    """What Detectron2's readers refuse: they stop at the first fault, and LVIS's at a test set
    without truth; ours leaves faults out and counts them."""
    unannotated = isinstance(error, KeyError) and error.args == ("annotations",)
    if (report.mode == "drop" or unannotated) and _readable_by_us(name):
        return _read_coco(name, report, with_masks)
    # They name the problem ("Encountered category_id=7 but ..."), not the file.
    source = _metadata_path(name, "json_file")
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
            source = _metadata_path(name, "json_file")
            raise DataError(
                f"data set {name!r} ({source}): the name of class {number} is {text!r}, "
                "which is empty or no text"
            )


def _readable_by_us(name: str) -> str | None:
    """ "coco" or "lvis" where the metadata says what our reader needs."""
    metadata = MetadataCatalog.get(name)
    kind = metadata.get("evaluator_type")
    if metadata.get("format", "coco") != "coco":  # YOLO, Pascal VOC, ...
        return None
    paths = _metadata_path(name, "json_file"), _metadata_path(name, "image_root")
    return kind if kind in ("coco", "lvis") and None not in paths else None


def _metadata_path(name: str, key: str) -> str | None:
    value = MetadataCatalog.get(name).get(key)
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
