"""Labeling on a Ray cluster: what a worker does, and with Ray the same bytes as without."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from glipv2_d2.errors import UserError, user_message
from glipv2_d2.labeling.pairs import Columns, Shard, find_shards
from glipv2_d2.labeling.ray_driver import Worker, label_with_ray
from glipv2_d2.labeling.shards import LabelSettings, ShardSummary, label_shard
from glipv2_d2.labeling.teacher import LabeledText

SETTINGS = LabelSettings(
    "webdataset", 0.1, "rules", False, {"config": "a", "weights": "b", "version": "c"}, Columns()
)


class StandIn:
    """A teacher that finds the first word of a caption in the corner of its image."""

    batch_size = 2
    made = 0

    def __init__(self):
        StandIn.made += 1

    def __call__(self, images, captions):
        return [LabeledText(text, [[0, 1]], [[0, 1.0, 2.0, 30.0, 40.0, 0.5]]) for text in captions]


@pytest.fixture
def pairs(shards):
    """Two shards, of three pairs and of two."""
    return find_shards(sorted(map(str, shards.glob("*.tar"))), 100)


@pytest.fixture
def output(tmp_path):
    (tmp_path / "labels").mkdir()
    return tmp_path / "labels"


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(pairs):
    return [{"shard": json.dumps(shard)} for shard in pairs]


def test_a_worker_makes_its_teacher_once_and_labels_what_is_left(pairs, output, monkeypatch):
    monkeypatch.setattr(StandIn, "made", 0)
    label_shard(pairs[0], output, StandIn, SETTINGS)
    worker = Worker(output, StandIn, SETTINGS)
    assert StandIn.made == 1  # by hand
    replies = [json.loads(worker(row)["reply"]) for row in rows(pairs) * 2]
    assert [ShardSummary(*reply).labeled for reply in replies] == [3, 2, 3, 2]
    assert StandIn.made == 2


def test_what_a_user_can_mend_is_a_reply_and_a_bug_is_none(pairs, output):
    worker = Worker(output / "missing", StandIn, SETTINGS)
    assert "No such file" in json.loads(worker(rows(pairs)[0])["reply"])
    gone = Shard("gone", "gone.tar", 0, 0, 0, 9)
    assert json.loads(worker(rows([gone])[0])["reply"]) == "there is no file 'gone.tar'"

    def make():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Worker(output, make, SETTINGS)(rows(pairs)[0])


def test_without_ray_the_extra_is_named(pairs, output, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError) as error:
        next(label_with_ray(pairs, output, StandIn, SETTINGS, workers=2))
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


def test_a_block_is_a_shard(ray, pairs, output):
    summaries = list(label_with_ray(pairs, output, StandIn, SETTINGS, workers=3))
    assert [(s.shard, s.labeled) for s in summaries] == [("00000", 3), ("00001", 2)]
    assert ray.blocks == 2 and ray.resources == {"num_cpus": 1}
    assert ray.compute == {"min_size": 1, "max_size": 3, "initial_size": 3}
    ray.gpus = 2
    list(label_with_ray(pairs, output, StandIn, SETTINGS, workers=3))
    assert ray.resources == {"num_gpus": 1}
    list(label_with_ray(pairs, output, StandIn, SETTINGS, workers=3, device="cpu"))
    assert ray.resources == {"num_cpus": 1}
    assert list(label_with_ray([], output, StandIn, SETTINGS, workers=3)) == []


def test_what_ends_a_run_is_one_line(ray, pairs, output):
    with pytest.raises(UserError, match="No such file"):
        list(label_with_ray(pairs, output / "missing", StandIn, SETTINGS, workers=1))
    ray.ends = Timeout("no progress for 1800s")
    with pytest.raises(UserError, match="1800s .*the same command goes on"):
        list(label_with_ray(pairs, output, StandIn, SETTINGS, workers=1))


@pytest.mark.slow
def test_the_same_bytes_as_without_ray(pairs, output, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the extra 'ray', 600 MB")
    (tmp_path / "serial").mkdir()
    for shard in pairs:
        label_shard(shard, tmp_path / "serial", StandIn, SETTINGS)
    try:
        found = list(label_with_ray(pairs, output, StandIn, SETTINGS, workers=1))
    finally:
        ray.shutdown()
    assert {summary.shard for summary in found} == {"00000", "00001"}
    assert files(output) == files(tmp_path / "serial")
