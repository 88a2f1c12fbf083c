from itertools import islice

import pytest
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader

from glipv2_d2.data.samplers import SampleStream, mixing_sampler


def indices(monkeypatch, rank, world, count, **options):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world)
    return list(islice(mixing_sampler(**options), count))


@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (0.5, 1.5)])
def test_processes_share_one_stream(monkeypatch, weights):
    options = {"sizes": [7, 5], "weights": weights, "seed": 3}
    alone = indices(monkeypatch, 0, 1, 60, **options)
    first = indices(monkeypatch, 0, 2, 30, **options)
    second = indices(monkeypatch, 1, 2, 30, **options)
    for step in range(15):  # total batch 4
        together = first[2 * step : 2 * step + 2] + second[2 * step : 2 * step + 2]
        assert sorted(together) == sorted(alone[4 * step : 4 * step + 4])


def test_deterministic_given_the_seed(monkeypatch):
    runs = [indices(monkeypatch, 0, 1, 50, sizes=[9], weights=[2], seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_weights_are_repeats_per_epoch(monkeypatch):
    epoch = indices(monkeypatch, 0, 1, 4 + 3 * 2, sizes=[4, 2], weights=[1, 3], seed=0)
    assert sorted(epoch) == [0, 1, 2, 3, 4, 4, 4, 5, 5, 5]
    many = indices(monkeypatch, 0, 1, 9000, sizes=[4, 2], weights=[0.25, 1], seed=0)
    assert abs(sum(i < 4 for i in many) / 9000 - 1 / 3) < 0.02


def test_unshuffled(monkeypatch):
    order = indices(monkeypatch, 0, 1, 6, sizes=[2, 1], weights=[1, 1], shuffle=False)
    assert order == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match="must be positive"):
        mixing_sampler([3], [weight])


def test_batches_do_not_depend_on_the_workers(monkeypatch):
    batches = []
    for workers in (0, 1, 2):
        monkeypatch.setattr(comm, "get_rank", lambda: 0)
        stream = SampleStream(
            DatasetFromList(list(range(10))), mixing_sampler([10], [1], seed=5), batch_size=4
        )
        loader = DataLoader(stream, batch_size=4, num_workers=workers, collate_fn=list)
        batches.append(list(islice(loader, 8)))
    assert batches[0] == batches[1] == batches[2]
