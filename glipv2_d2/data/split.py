"""A data set in two parts, for training and validation: by image, seeded, stratified by class."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from .report import Record
from .same_images import equal_images

__all__ = ["Split", "split_records"]

_EMPTY = -1  # the "class" of images without boxes


class Split(NamedTuple):
    """The records of both parts, each in their order before."""

    train: list[Record]
    val: list[Record]


def split_records(records: Sequence[Record], share: float, seed: int = 0) -> Split:
    """Split detection records so that each class has about its share of images in both parts.

    Images of equal content stay together. Iterative stratification (Sechidis et al., "On the
    Stratification of Multi-Label Data", 2011): the images of the rarest class are dealt out first,
    each to the validation part if one of its classes lacks more images there, and there is room. A
    class with few images is in the training part alone, unless so many are rare that this leaves
    room there: then that is filled, and each class keeps an image to be trained on at least.

    Args:
        records: their files are read where several have one size.
        share: of the validation part, in (0, 1). That part gets an image at least.
        seed: of the order in which images are dealt out.

    Raises:
        ValueError: all images have the same content, so that nothing can be split.
    """
    groups = equal_images(records)
    if len(groups) < 2:
        raise ValueError("images of equal content cannot be split")
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    labels = {g: _labels(records[i] for i in groups[g]) for g in order}
    sizes = {g: len(groups[g]) for g in order}
    totals = sum(labels.values(), Counter())
    in_val = _dealt_out(labels, sizes, share) or {_least_missed(labels, totals)}
    chosen = {i for g in in_val for i in groups[g]}
    parts = Split([], [])
    for i, record in enumerate(records):
        parts[i in chosen].append(record)
    return parts


def _labels(records: Iterable[Record]) -> Counter:
    """How many of a group's images have a class."""
    counts: Counter = Counter()
    for record in records:
        classes = {a["category_id"] for a in record["annotations"] if not a.get("iscrowd", 0)}
        counts.update(classes or {_EMPTY})
    return counts


def _dealt_out(labels: dict[int, Counter], sizes: dict[int, int], share: float) -> set[int]:
    """The groups of the validation part."""
    totals = sum(labels.values(), Counter())
    lacking = {c: [n * (1 - share), n * share] for c, n in totals.items()}
    room = round(sum(sizes.values()) * share)
    left, in_val = dict(labels), set()
    while left:
        having = Counter(c for counts in left.values() for c in counts)
        rarest = min(having, key=lambda c: (having[c], c))
        for group in [g for g, counts in left.items() if rarest in counts]:
            counts = left.pop(group)
            part = any(lacking[c][1] > lacking[c][0] for c in counts) and sizes[group] <= room
            if part:
                in_val.add(group)
                room -= sizes[group]
            for label, count in counts.items():
                lacking[label][part] -= count
    trained = Counter(totals)
    for group in in_val:
        trained.subtract(labels[group])
    return in_val | _spared(labels.keys() - in_val, labels, sizes, trained, room)


def _spared(
    groups: Iterable[int],
    labels: dict[int, Counter],
    sizes: dict[int, int],
    trained: Counter,
    room: int,
) -> set[int]:
    """The groups that fill the room, those of the most frequent classes first; each class of
    `trained` keeps an image."""

    def rarity(group: int) -> int:
        return -min(trained[c] for c in labels[group])

    order = {group: i for i, group in enumerate(labels)}
    heap = [(rarity(group), order[group], group) for group in groups]
    heapify(heap)
    spared = set()
    while heap and room:
        known, _, group = heappop(heap)
        if rarity(group) != known:  # others of its classes were spared since
            heappush(heap, (rarity(group), order[group], group))
        elif sizes[group] <= room and all(trained[c] > n for c, n in labels[group].items()):
            spared.add(group)
            room -= sizes[group]
            trained.subtract(labels[group])
    return spared


def _least_missed(labels: dict[int, Counter], totals: Counter) -> int:
    """The group whose rarest class has the most images of `totals`."""
    return max(labels, key=lambda g: min(totals[c] for c in labels[g]))
