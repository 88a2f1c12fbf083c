import math
import random
import re
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from torch.utils.data import DataLoader

from glipv2_d2.data.report import REPLACED, Report
from glipv2_d2.data.samplers import MOST_IN_A_ROW, MixingSampler, SampleStream
from glipv2_d2.errors import DataError, ImageReadError
from glipv2_d2.language.negatives import NothingToAsk


def indices(monkeypatch, rank, world, count, **options):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world)
    return list(islice(MixingSampler(**options), count))


@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (0.5, 1.5)])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_stream(monkeypatch, weights, world):
    options = {"sizes": [7, 5], "weights": weights, "seed": 3}
    alone = indices(monkeypatch, 0, 1, 60, **options)
    shares = [indices(monkeypatch, rank, world, 60 // world, **options) for rank in range(world)]
    assert alone == [share[step] for step in range(60 // world) for share in shares]


@pytest.mark.parametrize("skip", [1, 11, 12, 500])
def test_skipping_is_what_reading_on_would_give(monkeypatch, skip):
    for rank in (0, 1):
        options = {"sizes": [7, 5], "weights": (0.5, 2), "seed": 3}
        whole = indices(monkeypatch, rank, 2, skip + 20, **options)
        assert list(islice(MixingSampler(**options).stream(skip), 20)) == whole[skip:]


def test_deterministic_given_the_seed(monkeypatch):
    runs = [indices(monkeypatch, 0, 1, 50, sizes=[9], weights=[2], seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_epochs_have_other_orders():
    sampler = MixingSampler([50], [1], seed=0)
    first, second = sampler.epoch(0).tolist(), sampler.epoch(1).tolist()
    assert first != second and sorted(first) == sorted(second) == list(range(50))


def test_weights_are_repeats_per_epoch(monkeypatch):
    epoch = indices(monkeypatch, 0, 1, 4 + 3 * 2, sizes=[4, 2], weights=[1, 3], seed=0)
    assert sorted(epoch) == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5]
    many = indices(monkeypatch, 0, 1, 9000, sizes=[4, 2], weights=[0.25, 1], seed=0)
    assert sum(i < 4 for i in many) == 3000
    assert set(many) == set(range(6))  # another one of the four each epoch


def test_a_small_weight_of_a_small_data_set_is_not_none():
    sampler = MixingSampler([3, 100], [0.1, 1], seed=0)
    assert sampler.epoch_size == 101
    assert {i for n in range(30) for i in sampler.epoch(n).tolist() if i < 3} == {0, 1, 2}


def test_unshuffled(monkeypatch):
    order = indices(monkeypatch, 0, 1, 6, sizes=[2, 1], weights=[1, 1], shuffle=False)
    assert order == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match="must be positive"):
        MixingSampler([3], [weight])


def test_batches_do_not_depend_on_the_workers(monkeypatch):
    batches = []
    for workers in (0, 1, 2, 3):
        monkeypatch.setattr(comm, "get_rank", lambda: 0)
        stream = SampleStream([list(range(10))], MixingSampler([10], [1], seed=5), batch_size=4)
        loader = DataLoader(stream, batch_size=4, num_workers=workers, collate_fn=list)
        batches.append(list(islice(loader, 8)))
    assert batches[0] == batches[1] == batches[2] == batches[3]


def test_what_is_drawn_depends_on_the_place_in_the_stream(monkeypatch):
    """Not on the workers, the processes, nor on where the run was resumed."""

    def draw(record):
        drawn = np.random.rand()  # noqa: NPY002  (as augmentations do)
        return record, random.random(), float(drawn), float(torch.rand(()))

    def batches(count, *, world=1, rank=0, workers=0, skip=0, seed=5):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)
        stream = SampleStream(
            [list(range(10))],
            MixingSampler([10], [1], seed=seed),
            batch_size=4 // world,
            skip_batches=skip,
            mapper=draw,
        )
        size = stream.batch_size
        loader = DataLoader(stream, batch_size=size, num_workers=workers, collate_fn=list)
        return list(islice(loader, count))

    random.seed(0)
    whole = batches(6)
    assert len({numbers[1:] for batch in whole for numbers in batch}) == 24
    assert batches(6, workers=2) == whole
    assert batches(2, skip=4) == whole[4:]
    shares = [batches(6, world=2, rank=rank, skip=0) for rank in (0, 1)]
    assert [[s for pair in zip(*step) for s in pair] for step in zip(*shares)] == whole
    assert batches(6, seed=6) != whole
    random.seed(0)  # what is drawn outside goes on as if no sample had been made
    expected = random.random(), random.random()
    random.seed(0)
    found = [random.random()]
    batches(1)
    assert (*found, random.random()) == expected


def unreadable(bad, error):
    def mapper(record):
        if record in bad:
            raise error(f"record {record}")
        return record

    return mapper


@pytest.mark.parametrize("error", [DataError, ImageReadError, FileNotFoundError])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_used_is_replaced_by_the_next_of_its_data_set(error, workers):
    def batches(bad, strict=False):
        stream = SampleStream(
            [list(range(6)), list(range(10, 14))],
            MixingSampler([6, 4], [1, 1], seed=5),
            batch_size=4,
            mapper=unreadable(bad, error),
            report=Report(mode="raise" if strict else "drop", running=(REPLACED,)),
        )
        loader = DataLoader(stream, batch_size=4, num_workers=workers, collate_fn=list)
        return list(islice(loader, 5)), stream.report.totals()[REPLACED]

    sound, none = batches(())
    repaired, count = batches((2, 3, 13))
    instead = {2: 4, 3: 4, 13: 10}
    assert repaired == [[instead.get(i, i) for i in batch] for batch in sound]
    # 2 is replaced by 3 and that by 4; workers may be ahead of what was taken.
    assert none == 0 and count >= 2 * (2 + 1 + 1)
    with pytest.raises(error, match="record"):
        batches((2, 3, 13), strict=True)


def test_when_nothing_can_be_used_it_stops():
    stream = SampleStream(
        [list(range(3))],
        MixingSampler([3], [1], seed=0),
        batch_size=1,
        mapper=unreadable(range(3), FileNotFoundError),
    )
    with pytest.raises(DataError, match=f"{MOST_IN_A_ROW} records in a row.*first: record"):
        next(iter(stream))
    stream.mapper = unreadable(range(3), KeyError)  # a fault of the program
    with pytest.raises(KeyError):
        next(iter(stream))


def test_too_many_that_cannot_be_used_stop_the_run(caplog):
    """Every data worker has a stream of its own, and judges by what it has read from it."""

    def read(bad, count):
        stream = SampleStream(
            [list(range(100))],
            MixingSampler([100], [1], seed=0),
            batch_size=1,
            mapper=unreadable(bad, FileNotFoundError),
        )
        return len(list(islice(stream, count)))

    assert read(range(0, 100, 10), 300) == 300
    with pytest.raises(DataError, match=r"of 1\d\d records that were read cannot be used") as error:
        read(range(0, 100, 3), 300)
    assert "more than 20%; the last: record" in str(error.value)
    assert re.search(r"replaced by the next of its data set: 10 so far of \d\d ", caplog.text)


def test_what_was_asked_to_be_left_out_never_stops_the_run():
    """With one class, an image with crowd boxes only has nothing that can be asked for."""
    stream = SampleStream(
        [list(range(100))],
        MixingSampler([100], [1], seed=0),
        batch_size=1,
        mapper=unreadable(range(0, 100, 2), NothingToAsk),
        report=Report(mode="raise", running=(REPLACED,)),
    )
    assert all(record % 2 for record in islice(stream, 300))
    assert stream.report.totals()[REPLACED] > 100


def test_repeat_factors_share_an_epoch_of_the_size_that_the_weight_says():
    factors = torch.tensor([1.0, 1.0, 4.0, 2.0])
    sampler = MixingSampler([3, 4], [2, 1.5], seed=0, repeat_factors=[None, factors])
    epochs = [sampler.epoch(number).tolist() for number in range(400)]
    assert {len(epoch) for epoch in epochs} == {2 * 3 + 6}
    assert all(epoch.count(i) == 2 for epoch in epochs for i in range(3))
    # 6 samples of an epoch in the ratios 1 : 1 : 4 : 2, each number rounded up or down.
    for image, mean in zip(range(3, 7), (0.75, 0.75, 3.0, 1.5)):
        times = [epoch.count(image) for epoch in epochs]
        assert set(times) == {math.floor(mean), math.ceil(mean)}
        assert sum(times) / len(times) == pytest.approx(mean, abs=0.1)


def test_repeat_factors_resume_and_are_shared_as_other_epochs(monkeypatch):
    factors = torch.rand(9, generator=torch.Generator().manual_seed(0)) + 1
    options = {"sizes": [9], "weights": [1.3], "seed": 5, "repeat_factors": [factors]}
    alone = indices(monkeypatch, 0, 1, 60, **options)
    shares = [indices(monkeypatch, rank, 2, 30, **options) for rank in range(2)]
    assert alone == [share[step] for step in range(30) for share in shares]
    assert list(islice(MixingSampler(**options).stream(17), 13)) == shares[1][17:]


def test_equal_repeat_factors_are_none():
    """Every image once, whatever the rounding of the cumulated shares."""
    sampler = MixingSampler([1000], [1], seed=0, repeat_factors=[torch.full((1000,), 1.7)])
    assert sorted(sampler.epoch(0).tolist()) == list(range(1000))
