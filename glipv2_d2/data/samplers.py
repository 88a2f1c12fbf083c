"""An endless stream of samples that does not depend on how many processes read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from detectron2.data.common import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler, TrainingSampler
from torch.utils.data import IterableDataset, Sampler, get_worker_info


def mixing_sampler(
    sizes: Sequence[int],
    weights: Sequence[float],
    *,
    shuffle: bool = True,
    seed: int | None = None,
) -> Sampler:
    """The stock sampler for data sets that are laid one behind the other.

    Args:
        sizes: how many images each data set has.
        weights: how many times an epoch each image of that data set is seen (Detectron2's repeat
            factor; 0.5 shows a random half of it, another one each epoch).
        shuffle: without it the order is that of the data sets.
        seed: of the order; None shares a random one between the processes.

    Returns:
        An endless sampler that gives process r of w the indices ``r, r + w, r + 2w, ...`` of one
        stream, so that w processes see together what one process with their total batch sees.
    """
    for weight in weights:
        if not weight > 0:
            raise ValueError(f"the weight of a data set must be positive, got {weight}")
    if all(weight == 1 for weight in weights):
        return TrainingSampler(sum(sizes), shuffle=shuffle, seed=seed)
    factors = torch.cat([torch.full((n,), float(w)) for n, w in zip(sizes, weights)])
    return RepeatFactorTrainingSampler(factors, shuffle=shuffle, seed=seed)


class SampleStream(IterableDataset):
    """Records in the order of a sampler, dealt to the loader's workers batch by batch.

    Release 0.6 of Detectron2 deals single samples, which makes the composition of a batch depend
    on the number of workers; dealt in whole batches, the loader puts out the same batches with
    any number of them, as in Detectron2's head.
    """

    def __init__(
        self, records: DatasetFromList, sampler: Sampler, batch_size: int, skip_batches: int = 0
    ):
        """
        Args:
            records: what the indices point into.
            sampler: endless, already sharded over the training processes.
            batch_size: of one process.
            skip_batches: leave out so many batches of the stream, those that a run which is
                resumed has seen.
        """
        self.records = records
        self.sampler = sampler
        self.batch_size = batch_size
        self.skip_batches = skip_batches

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        stream = islice(self.sampler, self.skip_batches * self.batch_size, None)
        if worker is None or worker.num_workers == 1:
            yield from (self.records[index] for index in stream)
            return
        turn = 0
        while batch := list(islice(stream, self.batch_size)):
            if turn == worker.id:
                yield from (self.records[index] for index in batch)
            turn = (turn + 1) % worker.num_workers
