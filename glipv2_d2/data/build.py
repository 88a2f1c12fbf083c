"""Data loaders: Detectron2's own, fed with checked records of mixed data sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .. import compat
from ..errors import ConfigError, DataError
from ..language.prompt import TASKS
from .datasets.refexp import record_image_key
from .entries import short
from .loading import load_records, shared_dataset, training_records
from .mappers.grounding import GroundingDatasetMapper
from .mappers.vocabulary import class_names
from .reader import RecordIndex, evenly
from .records import Records
from .report import LEFT_OUT, REPLACED, WITHOUT_MASK, Record, Report
from .samplers import MixingSampler, SampleStream
from .shared_records import share_records

# A name, or (name, weight).
DatasetEntry = str | tuple[str, float]
QUESTIONS_LOOKED_AT = 1000


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
    repeat_threshold: float | None = None,
    tasks: Collection[str] | None = None,
    answers: Collection[str] | None = None,
) -> Iterable[list[Record]]:
    """An endless loader over a mix of detection and grounding data sets.

    Args:
        datasets: names, or (name, weight): the weight is how many times an epoch each image of
            the data set is seen (1 by default).
        mapper: with `is_train=True`; it gets the vocabularies and, for `negative_captions`, the
            captions. With `use_masks` boxes without a mask are left out, see `Records`; without it
            annotations in memory come without their `segmentation`, once it was checked.
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
            `["refcoco_val", "refcoco_testA"]`; see `image_key`. In a data set that is read by
            offset (TSV, tar, lazy ODVG) the next record takes the place of one that is left out.
        repeat_threshold: images of classes that are in less than this share of a detection data
            set's images are seen more often than its others, by the square root of the lack (LVIS,
            Appendix B.2; Detectron2's `RepeatFactorTrainingSampler`); None or 0: all equally often.
            How much of an epoch is of each data set stays as the weights say.
        tasks: those of `TASKS` that the model has a head for, which a training tells; None: they
            are not known now, and the model refuses a batch with another one.
        answers: those that the model can give, which a training tells; None: not known now.

    Returns:
        A loader of lists of mapped records; images without boxes are not filtered out.

    Raises:
        DataError: a data set cannot be used, see `check_records`, too many of its images are
            missing, a class name cannot be asked for, or there is not one box in all data sets.
        ConfigError: a data set has questions or captions, and `tasks` has not; no question of one
            is answered by any of `answers`; the classes of one that is read by offset would have to
            be counted; or `no_regression` of the mapper names another one.
    """
    entries = _entries(datasets)
    _require_named(mapper, [name for name, _ in entries])
    world = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % world:
        raise ValueError(
            f"total_batch_size={total_batch_size} must be a positive multiple of the number of "
            f"processes, {world}"
        )
    if seed is not None and seed < 0:  # Detectron2's way to ask for another order each run
        seed = None
    with_masks = getattr(mapper, "use_masks", None)  # other mappers need not tell
    running = (REPLACED, LEFT_OUT, WITHOUT_MASK) if with_masks else (REPLACED, LEFT_OUT)
    report = Report("", invalid, running=running)
    excluded = _excluded_images(exclude_images_of)
    parts = []
    for name, _ in entries:
        records = training_records(
            name, report, check_files=check_files, excluded=excluded, with_masks=with_masks
        )
        _require_task(records, tasks)
        _require_answers(records, answers)
        prepare(mapper, name, records)
        parts.append(records)
    if not any(part.teaches for part in parts):
        raise DataError(
            f"no image of {[part.name for part in parts]} has a box: there is nothing to learn but "
            "that nothing is there. Are the annotations in another file?"
        )
    repeats = _repeat_factors(parts, repeat_threshold) if repeat_threshold else None
    sizes, weights = [len(part) for part in parts], [weight for _, weight in entries]
    sampler = MixingSampler(sizes, weights, shuffle=shuffle, seed=seed, repeat_factors=repeats)
    _log_mix(entries, parts)
    batch_size = total_batch_size // world
    stream = SampleStream(parts, sampler, batch_size, start_iteration, mapper=mapper, report=report)
    return build_detection_train_loader(
        dataset=stream,
        mapper=None,  # the stream maps, so that it can replace what cannot be read
        total_batch_size=total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
    )


def _require_named(mapper: Callable[[Record], Any], names: Sequence[str]) -> None:
    """The data sets whose boxes are not to be regressed are among those that are trained on."""
    if strangers := sorted(set(getattr(mapper, "no_regression", ())) - set(names)):
        raise ConfigError(
            f"dataloader.train.mapper.no_regression names {strangers}, which dataloader.train."
            f"datasets does not have; there is: {', '.join(names)}"
        )


def _require_task(records: Records, tasks: Collection[str] | None) -> None:
    """The model has a head for questions or captions, if the records are such."""
    task = records.task
    if tasks is not None and task is not None and task not in tasks:
        raise ConfigError(
            f"the data set {records.name!r} has {task}s, and the model has no head that learns "
            f"from them: give it a model.{TASKS[task]}, or take the data set out of "
            "dataloader.train.datasets"
        )


def _require_answers(records: Records, answers: Collection[str] | None) -> None:
    """The model can give an answer to some question; to how many it cannot is logged."""
    if answers is None or records.task != "question":
        return
    known, rows = set(answers), evenly(len(records), QUESTIONS_LOOKED_AT)
    asked: list[Record] = [records.records[i] for i in rows]
    without = [record for record in asked if known.isdisjoint(record.get("answers", ()))]
    if len(without) == len(asked):
        first = short(list(without[0].get("answers", ())))
        raise ConfigError(
            f"the data set {records.name!r}: none of {len(asked)} questions that were looked at "
            f"has an answer that is in model.vqa_head.answers, the first has {first}: give that "
            "the list of this data set's answers"
        )
    if without:
        logging.getLogger(__name__).info(
            "%s: %d of %d questions that were looked at have no answer that is in "
            "model.vqa_head.answers: from them the model learns that no answer is right",
            records.name, len(without), len(asked),
        )  # fmt: skip


def _repeat_factors(parts: Sequence[Records], threshold: float) -> list[torch.Tensor | None]:
    """Of each data set, see `MixingSampler`; None for captions, which have no classes."""
    if not 0 < threshold <= 1:
        raise ValueError(f"repeat_threshold is a share of the images in (0, 1], got {threshold}")
    by_frequency = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    counted = [part for part in parts if part.num_classes is not None and part.task is None]
    for part in counted:
        if isinstance(part.records, RecordIndex):
            raise ConfigError(
                "dataloader.train.repeat_threshold counts the classes of all images first, and "
                f"the data set {part.name!r} is read by offset while it is trained on: use its "
                "json, or set repeat_threshold=null"
            )

    def factors_of(part: Records) -> torch.Tensor:
        return by_frequency([_classes(record) for record in part.records], threshold)

    # On each machine once, since all records are read for it.
    _, found = share_records(lambda: ((), {part.name: factors_of(part) for part in counted}))
    for name, factors in found.items():
        text = "data set %r: of %d images %d are seen more often than others, up to %.1f times"
        more = int((factors > factors.min()).sum())
        logging.getLogger(__name__).info(
            text, name, len(factors), more, float(factors.max() / factors.min())
        )
    return [found.get(part.name) for part in parts]


def _classes(record: Record) -> Record:
    """Its classes, one annotation each; captions have none."""
    annotations = () if "caption" in record else record["annotations"]
    ids = {annotation["category_id"] for annotation in annotations}
    return {"annotations": [{"category_id": class_id} for class_id in ids]}


def _excluded_images(names: Sequence[str]) -> set[str]:
    """The images of other data sets, by `record_image_key`."""
    if isinstance(names, str):
        raise ValueError(f"exclude_images_of is a list of names, got {names!r}")
    if not names:
        return set()
    _, keys = share_records(
        lambda: ((), {record_image_key(record) for name in names for record in load_records(name)})
    )
    return keys


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
        # The mapper shows a test image and what it is asked; the evaluator has the truth.
        records = load_records(dataset, invalid=invalid, drop_records=False, with_masks=False)
        if batch_size > 1:
            # Of questions and captions the file may not tell the size.
            records.sort(key=lambda record: record.get("width", 1) / record.get("height", 1))
        return records, None

    records, _ = shared_dataset(dataset, read)
    prepare(mapper, dataset, records)
    return compat.build_test_loader(
        records, mapper=mapper, batch_size=batch_size, num_workers=num_workers
    )


def prepare(mapper: Callable[[Record], Any], name: str, records: Sequence[Record]) -> None:
    """Let our mapper look at a data set before there are data workers; others need not."""
    if hasattr(mapper, "prepare"):
        mapper.prepare(name, records)


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
    entries = []
    for entry in [datasets] if isinstance(datasets, str) else datasets:
        pair = (entry, 1.0) if isinstance(entry, str) else entry
        if len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"a data set is a name or (name, weight), got {entry!r}")
        entries.append((pair[0], float(pair[1])))
    if not entries:
        raise ValueError("the list of training data sets is empty")
    names = [name for name, _ in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"data sets named twice: {twice}; give a weight of 2 instead")
    return entries


def _log_mix(entries: Sequence[tuple[str, float]], parts: Sequence[Sequence[Record]]) -> None:
    log = logging.getLogger(__name__)
    seen = [len(part) * weight for part, (_, weight) in zip(parts, entries)]
    text = "Training on %s: %d images x %g = %.1f%% of an epoch"
    for part, (name, weight), count in zip(parts, entries, seen):
        log.info(text, name, len(part), weight, 100 * count / sum(seen))
