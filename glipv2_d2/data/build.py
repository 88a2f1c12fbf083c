"""Data loaders: Detectron2's own, fed with checked records of mixed data sets."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_train_loader,
)
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader

from glipv2_d2 import compat
from glipv2_d2.data.checks import DataError, check_records
from glipv2_d2.data.mappers.grounding import GroundingDatasetMapper, absent_class_ids
from glipv2_d2.data.samplers import SampleStream, mixing_sampler

Record = dict[str, Any]
# A name, or (name, weight).
DatasetEntry = str | tuple[str, float]


def load_records(name: str, *, invalid: str = "raise", check_files: bool = False) -> list[Record]:
    """The checked records of a registered data set, each with its ``dataset_name``.

    Args:
        name: in ``DatasetCatalog``.
        invalid, check_files: see :func:`~glipv2_d2.data.checks.check_records`.

    Raises:
        DataError: the name is unknown, the annotation file is missing, or a record is invalid.
    """
    if name not in DatasetCatalog.list():
        raise DataError(
            f"there is no data set named {name!r}: register it first, for instance with "
            "detectron2's register_coco_instances or with register_grounding_dataset"
        )
    records = _load(name)
    metadata = MetadataCatalog.get(name)
    names = metadata.get("thing_classes")
    checked = check_records(
        records,
        name,
        source=metadata.get("json_file"),
        num_classes=None if names is None else len(names),
        invalid=invalid,
        check_files=check_files,
    )
    return [{**record, "dataset_name": name} for record in checked]


def _load(name: str) -> list[Record]:
    source = MetadataCatalog.get(name).get("json_file")
    try:
        return DatasetCatalog.get(name)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"the annotation file of data set {name!r} is missing: {error.filename or error}"
        ) from error
    except (KeyError, ValueError, AssertionError) as error:
        # Detectron2's loaders name the problem ("Encountered category_id=7 but ..."), not the file.
        reason = error.args[0] if error.args else error
        if isinstance(error, KeyError) and " " not in str(reason):
            reason = f"the field {reason!r} is missing"
        raise DataError(
            f"the annotations of data set {name!r}"
            + (f" ({source})" if source else "")
            + f" cannot be loaded: {reason}"
        ) from error


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
    invalid: str = "raise",
    check_files: bool = False,
) -> Iterable[list[Record]]:
    """An endless loader over a mix of detection and grounding data sets.

    Args:
        datasets: names, or (name, weight): the weight is how many times an epoch each image of
            the data set is seen (1 by default).
        mapper: with ``is_train=True``; it gets the vocabularies and, for
            ``negative_captions``, the captions.
        total_batch_size: over all processes.
        num_workers: of this process; the batches do not depend on it.
        seed: of the order of the images; None or negative: another one each run. w processes see
            together, step by step, what one process with the same total batch size sees (without
            aspect ratio grouping).
        shuffle: random order.
        start_iteration: begin the order there, where a run that is resumed stopped (exact with a
            seed and without aspect ratio grouping).
        aspect_ratio_grouping: wide and tall images in separate batches, as in Detectron2.
        invalid, check_files: see :func:`~glipv2_d2.data.checks.check_records`.

    Returns:
        A loader of lists of mapped records; images without boxes are not filtered out.
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
    parts = []
    for name, _ in entries:
        records = load_records(name, invalid=invalid, check_files=check_files)
        parts.append(_without_questionless(records, name))
        if getattr(mapper, "negative_captions", 0):
            pool = [(r["file_name"], r["caption"]) for r in records if "caption" in r]
            if pool:
                mapper.set_caption_pool(name, DatasetFromList(pool, copy=False))
    if hasattr(mapper, "prepare"):
        mapper.prepare(name for name, _ in entries)
    sampler = mixing_sampler(
        [len(part) for part in parts], [w for _, w in entries], shuffle=shuffle, seed=seed
    )
    _log_mix(entries, parts)
    records = DatasetFromList([r for part in parts for r in part], copy=False)
    return build_detection_train_loader(
        dataset=SampleStream(records, sampler, total_batch_size // world, start_iteration),
        mapper=mapper,
        total_batch_size=total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
    )


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
        mapper: with ``is_train=False``.
        batch_size: of one process.
        num_workers: of one process.
        invalid: annotations are only the questions here, so that bad ones need not stop.
    """
    records = load_records(dataset, invalid=invalid)
    if hasattr(mapper, "prepare"):
        mapper.prepare([dataset])
    return compat.build_test_loader(
        records, mapper=mapper, batch_size=batch_size, num_workers=num_workers
    )


def relabel(
    records: Sequence[Record], classes: Sequence[str], new_classes: Sequence[str]
) -> list[Record]:
    """Detection records whose class ids index `new_classes` instead of `classes`, matched by name.

    Raises:
        DataError: an annotated class has no namesake in `new_classes`.
    """
    index = {name: i for i, name in enumerate(new_classes)}
    result = []
    for record in records:
        annotations = []
        for annotation in record["annotations"]:
            name = classes[annotation["category_id"]]
            if name not in index:
                raise DataError(f"{record['file_name']}: the class {name!r} is not in new_classes")
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


def _log_mix(entries: Sequence[tuple[str, float]], parts: Sequence[Sequence[Record]]) -> None:
    log = logging.getLogger(__name__)
    epoch = sum(len(part) * weight for part, (_, weight) in zip(parts, entries))
    for part, (name, weight) in zip(parts, entries):
        share = 100 * len(part) * weight / epoch
        log.info(
            "Training on %s: %d images x %g = %.1f%% of an epoch", name, len(part), weight, share
        )
