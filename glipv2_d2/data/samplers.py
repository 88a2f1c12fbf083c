"""An endless stream of samples that does not depend on how many processes read it."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import torch
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.utils import comm
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from ..errors import DataError, ImageReadError
from ..language.negatives import NothingToAsk
from ..seeding import seeded
from ..signals import leave_signals_to_main_process
from .report import REPLACED, Record, Report

# What a bad record or image raises; anything else is an error of the program.
UNUSABLE = (DataError, ImageReadError, FileNotFoundError, SizeMismatchError, NothingToAsk)
# So many unusable records in a row are no accident: a folder is missing or a path is wrong.
MOST_IN_A_ROW = 64
# Nor is such a share of those that one process or data worker has read, once there are so many.
MOST_UNUSABLE, FEWEST_READ = 0.2, 100

_BLOCK = 1 << 16


class MixingSampler(Sampler):
    """Indices into data sets that are laid one behind the other, endless and sharded.

    Process r of w gets the indices `r, r + w, r + 2w, ...` of one stream, so that w processes
    see together what one process with their total batch sees. An epoch is a permutation that
    depends on the seed and the number of the epoch only, held as one tensor: Detectron2's
    samplers make a Python list of it in every data worker (0.6 GB for 15 million images), and a
    resumed run walks through all that it has seen.

    Args:
        sizes: how many images each data set has.
        weights: how many times an epoch each image of that data set is seen; 0.5 shows a
            random half of it, another one each epoch.
        shuffle: without it the order is that of the data sets.
        seed: of the order; None shares a random one between the processes.
        repeat_factors: of each data set (n,), how often each image is seen compared with the
            others of its data set, whose share of an epoch stays as its weight says; None: all
            equally often.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        *,
        shuffle: bool = True,
        seed: int | None = None,
        repeat_factors: Sequence[torch.Tensor | None] | None = None,
    ):
        for weight in weights:
            if not weight > 0:
                raise ValueError(f"the weight of a data set must be positive, got {weight}")
        self.sizes = list(sizes)
        self.repeat_factors = repeat_factors or [None] * len(sizes)
        self.shuffle = shuffle
        self.seed = comm.shared_random_seed() if seed is None else int(seed)
        # Samples of each in an epoch; at least one, or it would never be seen.
        self.counts = [max(round(n * w), min(n, 1)) for n, w in zip(sizes, weights)]
        self.epoch_size = sum(self.counts)
        if not self.epoch_size:
            raise ValueError(f"an epoch of {self.sizes} images x {list(weights)} has no image")
        self.rank = comm.get_rank()
        self.world = comm.get_world_size()

    def epoch(self, number: int) -> torch.Tensor:
        """The indices of an epoch, for all processes together."""
        generator = torch.Generator()
        # Neighboring seeds of one generator are unrelated streams.
        generator.manual_seed((self.seed + number * 1_000_003) % (1 << 63))
        parts, start = [], 0
        kind = torch.int32 if sum(self.sizes) < 1 << 31 else torch.int64
        for size, count, factors in zip(self.sizes, self.counts, self.repeat_factors):
            whole, rest = divmod(count, size) if size else (0, 0)
            images = torch.arange(start, start + size, dtype=kind)
            start += size
            if factors is not None:
                parts.append(images.repeat_interleave(_times_seen(factors, count, generator)))
                continue
            parts += [images] * whole
            if rest:
                some = torch.randperm(size, generator=generator)[:rest]
                parts.append(images[some.sort().values])
        indices = torch.cat(parts)
        if self.shuffle:
            indices = indices[torch.randperm(len(indices), generator=generator)]
        return indices

    def stream(self, skip: int = 0) -> Iterator[int]:
        """The indices of this process, after the first `skip` of them."""
        position = skip * self.world + self.rank
        while True:
            number, offset = divmod(position, self.epoch_size)
            mine = self.epoch(number)[offset :: self.world]
            for block in mine.split(_BLOCK):
                yield from block.tolist()
            position += len(mine) * self.world

    def __iter__(self) -> Iterator[int]:
        return self.stream()


def _times_seen(factors: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """How often each image is seen in an epoch of `count` samples, (n,) int64.

    Systematic sampling: on average in proportion to `factors`, and always its average rounded up or
    down, where Detectron2 rounds each for itself and epochs differ in length.
    """
    order = torch.randperm(len(factors), generator=generator)
    ends = factors.double()[order].cumsum(0)
    ends = ends * (count / ends[-1])
    ends[-1] = count  # without rounding errors
    steps = (ends + torch.rand((), generator=generator, dtype=ends.dtype)).floor().long()
    times = torch.empty_like(order)
    times[order] = steps.diff(prepend=steps.new_zeros(1))
    return times


class SampleStream(IterableDataset):
    """Mapped records in the order of a sampler, dealt to the loader's workers batch by batch.

    Release 0.6 of Detectron2 deals single samples, which makes the composition of a batch depend
    on the number of workers; dealt in whole batches, the loader puts out the same batches with
    any number of them, as in Detectron2's head.

    What the mapper draws for a sample (augmentation, prompt) depends on the sampler's seed and the
    sample's place in the stream only: not on the number of workers or processes, nor on whether the
    run was resumed.

    A record that cannot be used (see `UNUSABLE`) is replaced by the next one of its data set
    and counted. Left out instead, it would shift all batches of its worker, and a run would be
    another one with another number of workers.

    More than `MOST_UNUSABLE` of them stop the run. Each process and each data worker judges by
    what it has read itself, from its `FEWEST_READ`th record on; sound records that were asked to
    be left out do not count.

    Args:
        datasets: laid one behind the other, they are what the indices point into; none is empty.
        sampler: endless, already sharded over the training processes.
        batch_size: of one process.
        skip_batches: leave out so many batches of the stream, those that a run which is
            resumed has seen.
        mapper: makes the model's input; None: the records themselves.
        report: counts `REPLACED`; in its mode `"raise"` an unusable record stops.
    """

    def __init__(
        self,
        datasets: Sequence[Sequence[Any]],
        sampler: MixingSampler,
        batch_size: int,
        skip_batches: int = 0,
        *,
        mapper: Callable[[Record], Any] | None = None,
        report: Report | None = None,
    ):
        self.datasets = list(datasets)
        self._ends = list(accumulate(map(len, self.datasets)))
        self.sampler = sampler
        self.batch_size = batch_size
        self.skip_batches = skip_batches
        self.mapper = mapper
        self.report = report or Report(running=(REPLACED,))
        self._read = self._faults = 0  # in this process: a data worker has a copy of its own

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first = self.skip_batches * self.batch_size
        stream = enumerate(self.sampler.stream(first), start=first)
        if worker is not None:
            leave_signals_to_main_process()
        if worker is None or worker.num_workers == 1:
            yield from map(self._drawn, stream)
            return
        turn = 0
        while batch := list(islice(stream, self.batch_size)):
            if turn == worker.id:
                yield from map(self._drawn, batch)
            turn = (turn + 1) % worker.num_workers

    def _drawn(self, numbered: tuple[int, int]) -> Any:
        number, index = numbered
        place = number * self.sampler.world + self.sampler.rank
        with seeded(self.sampler.seed, place):
            return self._sample(index)

    def _sample(self, index: int) -> Any:
        dataset = bisect.bisect_right(self._ends, index)
        records = self.datasets[dataset]
        start = index - self._ends[dataset] + len(records)
        first: Exception | None = None
        for number in range(start, start + MOST_IN_A_ROW):
            self._read += 1
            try:
                record = records[number % len(records)]
                return record if self.mapper is None else self.mapper(record)
            except UNUSABLE as error:
                fault = getattr(error, "fault", True)
                if fault and self.report.mode == "raise":
                    raise
                first = first or error
                self._faults += fault
                self.report.count(REPLACED, 1, str(error), of=self._read)
                self._stop_if_most(error)
        raise DataError(
            f"{MOST_IN_A_ROW} records in a row cannot be used; the first: {first}"
        ) from first

    def _stop_if_most(self, error: Exception) -> None:
        if self._read >= FEWEST_READ and self._faults > MOST_UNUSABLE * self._read:
            raise DataError(
                f"{self._faults} of {self._read} records that were read cannot be used, more than "
                f"{MOST_UNUSABLE:.0%}; the last: {error}. Is the image folder right, and complete? "
                "Otherwise take these records out of the annotation file"
            ) from error
