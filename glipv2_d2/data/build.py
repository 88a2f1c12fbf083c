"""Data loaders: Detectron2's own, fed with checked records of mixed data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data import build_detection_train_loader
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .. import compat
from ..errors import DataError
from .counters import Counters
from .datasets.phrase_classes import detection_classes
from .datasets.refexp import record_image_key
from .loading import LEFT_OUT, load_records, shared_dataset, stored_records
from .mappers.grounding import GroundingDatasetMapper, class_names
from .masks import MaskedRecords
from .records import CaptionPool, CheckedRecords, RecordMix
from .samplers import REPLACED, MixingSampler, SampleStream

Record = dict[str, Any]
# A name, or (name, weight).
DatasetEntry = str | tuple[str, float]


def build_grounding_train_loader(
    datasets: str | Sequence[DatasetEntry],
    *,
    mapper: GroundingDatasetMapper,
    total_batch_size: int,
    num_workers: int = 0,
    seed: int | None = None,
    shuffle: bool = True,
    start_iteration: int = 0,
    aspect_ratio_grouping: bool = False,
    invalid: str = "drop",
    check_files: bool = False,
    exclude_images_of: Sequence[str] = (),
) -> Iterable[list[Record]]:
    """An endless loader over a mix of detection and grounding data sets.

    Args:
        datasets: names, or (name, weight): the weight is how many times an epoch each image of
            the data set is seen (1 by default).
        mapper: with `is_train=True`; it gets the vocabularies and, for
            `negative_captions`, the captions. With `use_masks` boxes without a mask are left
            out, see `MaskedRecords`.
        total_batch_size: over all processes.
        num_workers: of this process; the batches do not depend on it.
        seed: of the order of the images; None or negative: another one each run. w processes see
            together, step by step, what one process with the same total batch size sees (without
            aspect ratio grouping).
        shuffle: random order.
        start_iteration: begin the order there, where a run that is resumed stopped (exact with a
            seed and without aspect ratio grouping).
        aspect_ratio_grouping: wide and tall images in separate batches, as in Detectron2.
        invalid: `"drop"`: what is wrong is left out and counted: annotations and records when
            they are loaded, images when they are read (another image takes the place);
            `"raise"`: stop at the first.
        check_files: look for every image file now.
        exclude_images_of: names of data sets whose images must not be trained on, for instance
            `["refcoco_val", "refcoco_testA"]`; see
            `image_key`. In a lazy data set (TSV, tar,
            lazy ODVG) the next record takes the place of one that is left out.

    Returns:
        A loader of lists of mapped records; images without boxes are not filtered out.

    Raises:
        DataError: a data set cannot be used, see
            `check_records`, too many of its images are missing, a
            class name cannot be asked for, or there is not one box in all data sets.
    """
    entries = _entries(datasets)
    world = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world:
        raise ValueError(
            f"total_batch_size={total_batch_size} must be a positive multiple of the number of "
            f"processes, {world}"
        )
    if seed is not None and seed < 0:  # Detectron2's way to ask for another order each run
        seed = None
    counters = Counters((REPLACED, LEFT_OUT), __name__)
    excluded = _excluded_images(exclude_images_of)
    with_masks = getattr(mapper, "use_masks", False)
    parts, taught = [], False
    for name, _ in entries:
        part = stored_records(name, invalid, check_files, counters, excluded, with_masks)
        _prepare(mapper, name, part)
        taught = taught or isinstance(part, CheckedRecords) or any(map(_teaches, part))
        parts.append(MaskedRecords(part, name) if with_masks else part)
        most_negatives = getattr(mapper, "most_negatives", None)  # other mappers need not have it
        if most_negatives and most_negatives(name) and _has_captions(part):
            mapper.set_caption_pool(name, CaptionPool(part))
    if not taught:
        raise DataError(
            f"no image of {[name for name, _ in entries]} has a box: there is nothing to learn but "
            "that nothing is there. Are the annotations in another file?"
        )
    sampler = MixingSampler(
        [len(part) for part in parts], [w for _, w in entries], shuffle=shuffle, seed=seed
    )
    _log_mix(entries, parts)
    stream = SampleStream(
        RecordMix(parts),
        sampler,
        total_batch_size // world,
        start_iteration,
        mapper=mapper,
        strict=invalid == "raise",
        counters=counters,
    )
    return build_detection_train_loader(
        dataset=stream,
        mapper=None,  # the stream maps, so that it can replace what cannot be read
        total_batch_size=total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
    )


def _excluded_images(names: Sequence[str]) -> set[str]:
    """The images of other data sets, by `record_image_key`."""
    if isinstance(names, str):
        raise ValueError(f"exclude_images_of is a list of names, got {names!r}")
    return {record_image_key(record) for name in names for record in load_records(name)}


def _has_captions(records: Sequence[Record]) -> bool:
    """Lazy data sets say it; a list is one of captions if its first record is."""
    known = getattr(records, "has_captions", None)
    return "caption" in records[0] if known is None else known


def _teaches(record: Record) -> bool:
    """Whether a record has a box, or classes that are verified to be absent."""
    single = any(not a.get("iscrowd", 0) for a in record.get("annotations", ()))
    return single or bool(record.get("neg_category_ids"))


def build_grounding_test_loader(
    dataset: str,
    *,
    mapper: GroundingDatasetMapper,
    batch_size: int = 1,
    num_workers: int = 0,
    invalid: str = "drop",
) -> DataLoader:
    """Every image of a data set once, sharded over the processes as Detectron2 does.

    Args:
        dataset: a registered name.
        mapper: with `is_train=False`.
        batch_size: of one process. Images of like shapes come one after the other, if it is not 1:
            GLIP shows those together that are padded to one size.
        num_workers: of one process.
        invalid: annotations are only the questions here, so that bad ones need not stop. A record
            that cannot be used does: a result over fewer images is another result.
    """

    def read() -> tuple[list[Record], None]:
        records = load_records(dataset, invalid=invalid, drop_records=False)
        if batch_size > 1:
            records.sort(key=lambda record: record["width"] / record["height"])
        return records, None

    records, _ = shared_dataset(dataset, read)
    _prepare(mapper, dataset, records)
    return compat.build_test_loader(
        records, mapper=mapper, batch_size=batch_size, num_workers=num_workers
    )


def evaluated_records(
    dataset: str, mapper: GroundingDatasetMapper, invalid: str = "drop"
) -> list[Record]:
    """The records of a test loader, whose mapper gets the class names.

    Args:
        dataset, mapper, invalid: see `build_grounding_test_loader`.

    Raises:
        DataError: a record cannot be used, or a class cannot be asked for.
    """
    records = load_records(dataset, invalid=invalid, drop_records=False)
    _prepare(mapper, dataset, records)
    return records


def _prepare(mapper: GroundingDatasetMapper, name: str, records: Sequence[Record]) -> None:
    """Captions need no class names."""
    is_asked = detection_classes(name) is not None or not _has_captions(records)
    if is_asked and hasattr(mapper, "prepare"):
        mapper.prepare([name])


def relabel(
    records: Sequence[Record], dataset_name: str, new_classes: Sequence[str]
) -> list[Record]:
    """Detection records whose class ids index `new_classes`, matched by name.

    Args:
        records: of the data set `dataset_name`, whose class names come from the catalog.

    Raises:
        DataError: an annotated class has no namesake in `new_classes`, or several.
    """
    classes = class_names(dataset_name)
    index = {name: i for i, name in enumerate(new_classes)}
    result = []
    for record in records:
        annotations = []
        for annotation in record["annotations"]:
            name = classes[annotation["category_id"]]
            if name not in index:
                raise DataError(f"{record['file_name']}: the class {name!r} is not in new_classes")
            if len(index) < len(new_classes) and new_classes.count(name) > 1:
                raise DataError(f"{record['file_name']}: new_classes has {name!r} more than once")
            annotations.append({**annotation, "category_id": index[name]})
        result.append({**record, "annotations": annotations})
    return result


def _entries(datasets: str | Sequence[DatasetEntry]) -> list[tuple[str, float]]:
    if isinstance(datasets, str):
        datasets = [datasets]
    entries = []
    for entry in datasets:
        if isinstance(entry, str):
            entries.append((entry, 1.0))
            continue
        if len(entry) != 2 or not isinstance(entry[0], str):
            raise ValueError(f"a data set is a name or (name, weight), got {entry!r}")
        entries.append((entry[0], float(entry[1])))
    if not entries:
        raise ValueError("the list of training data sets is empty")
    names = [name for name, _ in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"data sets named twice: {twice}; give a weight of 2 instead")
    return entries


def _log_mix(entries: Sequence[tuple[str, float]], parts: Sequence[Sequence[Record]]) -> None:
    log = logging.getLogger(__name__)
    epoch = sum(len(part) * weight for part, (_, weight) in zip(parts, entries))
    for part, (name, weight) in zip(parts, entries):
        share = 100 * len(part) * weight / epoch
        log.info(
            "Training on %s: %d images x %g = %.1f%% of an epoch", name, len(part), weight, share
        )
