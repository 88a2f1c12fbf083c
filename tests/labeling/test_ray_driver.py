"""Labeling on a Ray cluster: what a worker does, and with Ray the same bytes as without."""

import json
import os
import signal
import sys
from types import ModuleType, SimpleNamespace

import pytest

from glipv2_d2.errors import UserError, user_message
from glipv2_d2.labeling.pairs import Shard, find_shards
from glipv2_d2.labeling.ray_driver import Worker, label_with_ray
from glipv2_d2.labeling.shards import ShardSummary, label_shard
from tests.support.stand_in_teacher import StandIn, contents, settings, write_pairs

SETTINGS = settings()


@pytest.fixture
def pairs(tmp_path):
    """Two shards, of two pairs each."""
    return find_shards([write_pairs(tmp_path / "in", "csv")], 2)


@pytest.fixture
def labels_folder(tmp_path):
    (tmp_path / "labels").mkdir()
    return tmp_path / "labels"


def rows(pairs):
    return [{"shard": json.dumps(shard)} for shard in pairs]


def test_a_worker_makes_its_teacher_once_and_labels_what_is_left(pairs, labels_folder):
    made = []

    def make():
        made.append(StandIn())
        return made[-1]

    label_shard(pairs[0], labels_folder, StandIn, SETTINGS)
    worker = Worker(os.getcwd(), labels_folder, make, SETTINGS)
    worker(rows(pairs)[0])
    assert not made  # the shard is done
    replies = [json.loads(worker(row)["reply"]) for row in rows(pairs) * 2]
    assert [ShardSummary(*reply).labeled for reply in replies] == [2, 2, 2, 2]
    assert len(made) == 1


def test_what_a_user_can_mend_is_a_reply_and_a_bug_is_none(pairs, labels_folder):
    worker = Worker(os.getcwd(), labels_folder / "missing", StandIn, SETTINGS)
    assert "No such file" in json.loads(worker(rows(pairs)[0])["reply"])
    gone = Shard("gone", "gone.tar", 0, 0, 0, 9)
    reply = json.loads(
        Worker(os.getcwd(), labels_folder, StandIn, SETTINGS)(rows([gone])[0])["reply"]
    )
    assert ShardSummary(*reply).failed == "there is no file 'gone.tar'"

    def make():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Worker(os.getcwd(), labels_folder, make, SETTINGS)(rows(pairs)[0])


def test_without_ray_the_extra_is_named(pairs, labels_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError) as error:
        next(label_with_ray(pairs, labels_folder, StandIn, SETTINGS, workers=2))
    assert "pip install 'glipv2_d2[ray]'" in user_message(error.value)


class Timeout(Exception):
    pass


@pytest.fixture
def ray(monkeypatch):
    """What the driver uses of Ray, in this process; `asked` is how it was used."""
    asked = SimpleNamespace(gpus=0, ends=None)

    class Rows(list):
        context = SimpleNamespace()

        def map(self, worker, fn_constructor_args, compute, **resources):
            asked.compute, asked.resources = compute, resources
            return Rows(map(worker(*fn_constructor_args), self))

        def iter_rows(self):
            yield from self
            if asked.ends:
                raise asked.ends

    def from_items(items, override_num_blocks):
        asked.blocks = override_num_blocks
        return Rows(items)

    module, data, exceptions = (ModuleType(n) for n in ("ray", "ray.data", "ray.data.exceptions"))
    module.is_initialized, module.data = lambda: True, data
    module.cluster_resources = lambda: {"CPU": 4.0, "GPU": asked.gpus}
    data.from_items, data.ActorPoolStrategy = from_items, dict
    exceptions.ExecutionTimeoutError = Timeout
    for each in (module, data, exceptions):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    return asked


def test_a_block_is_a_shard(ray, pairs, labels_folder):
    summaries = list(label_with_ray(pairs, labels_folder, StandIn, SETTINGS, workers=3))
    assert [(s.shard, s.labeled) for s in summaries] == [(pair.name, 2) for pair in pairs]
    assert ray.blocks == 2 and ray.resources == {"num_cpus": 1}
    assert ray.compute == {"min_size": 1, "max_size": 3, "initial_size": 3}
    ray.gpus = 2
    list(label_with_ray(pairs, labels_folder, StandIn, SETTINGS, workers=3))
    assert ray.resources == {"num_gpus": 1}
    list(label_with_ray(pairs, labels_folder, StandIn, SETTINGS, workers=3, device="cpu"))
    assert ray.resources == {"num_cpus": 1}
    assert list(label_with_ray([], labels_folder, StandIn, SETTINGS, workers=3)) == []


def test_what_ends_a_run_is_one_line(ray, pairs, labels_folder):
    with pytest.raises(UserError, match="No such file"):
        list(label_with_ray(pairs, labels_folder / "missing", StandIn, SETTINGS, workers=1))
    ray.ends = Timeout("no progress for 1800s")
    with pytest.raises(UserError, match="1800s .*the same command goes on"):
        list(label_with_ray(pairs, labels_folder, StandIn, SETTINGS, workers=1))


@pytest.mark.slow
def test_the_same_bytes_as_without_ray(pairs, labels_folder, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra 'ray', 600 MB")
    (tmp_path / "serial").mkdir()
    for shard in pairs:
        label_shard(shard, tmp_path / "serial", StandIn, SETTINGS)
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        found = list(label_with_ray(pairs, labels_folder, StandIn, SETTINGS, workers=1))
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, at_sigterm)  # which Ray has replaced
    assert {summary.shard for summary in found} == {pair.name for pair in pairs}
    assert contents(labels_folder) == contents(tmp_path / "serial")
