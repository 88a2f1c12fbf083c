"""Who labels changes nothing; processes that are killed are replaced, and leave nothing behind."""

import multiprocessing
import os
import signal
import time
from functools import partial

import pytest

from glipv2_d2.errors import CheckpointError, UsageError
from glipv2_d2.labeling import drivers
from glipv2_d2.labeling.drivers import label_here, label_in_processes
from glipv2_d2.labeling.pairs import find_shards
from tests.support.stand_in_teacher import StandIn, contents, settings, write_pairs


@pytest.fixture
def parts(tmp_path):
    return find_shards([write_pairs(tmp_path / "in", "csv", 12)], 2)


@pytest.fixture
def expected(parts, tmp_path):
    """What one process writes."""
    return labeled(label_here, parts, tmp_path / "expected")


@pytest.fixture
def forked(monkeypatch):
    """Processes that have imported what a start costs most of its time for."""
    multiprocessing.set_forkserver_preload(["glipv2_d2.engine"])
    monkeypatch.setattr(drivers, "START_METHOD", "forkserver")


def labeled(driver, parts, output, make_teacher=StandIn, **options):
    output.mkdir()
    summaries = list(driver(parts, output, make_teacher, settings(), **options))
    assert sorted(s.shard for s in summaries) == sorted(s.name for s in parts)
    assert not any(summary.failed for summary in summaries)
    return contents(output)


def broken_weights():
    raise CheckpointError("the weights are of another model")


class Deadly:
    batch_size = 1

    def __call__(self, images, captions):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_process_is_replaced_and_its_shard_done_anew(
    processes, parts, expected, forked, tmp_path
):
    teacher = partial(StandIn, kill=tmp_path / "killed")
    found = labeled(label_in_processes, parts, tmp_path / "out", teacher, processes=processes)
    assert (tmp_path / "killed").exists() and found == expected


def test_shards_that_every_process_dies_over_are_given_up_until_it_cannot_be_their_fault(
    parts, forked, tmp_path, monkeypatch
):
    monkeypatch.setattr(drivers, "MOST_TRIES", 2)
    run = label_in_processes(parts, tmp_path, Deadly, settings(), 1)
    assert next(run).failed == "2 processes died over it, the last with exit code -9"
    with pytest.raises(UsageError, match="Is there memory for 1 models"):
        list(run)
    assert multiprocessing.active_children() == []


def test_a_teacher_that_cannot_be_made_ends_all_with_its_error(parts, forked, tmp_path):
    with pytest.raises(CheckpointError, match="of another model"):
        list(label_in_processes(parts, tmp_path, broken_weights, settings(), 2))
    assert multiprocessing.active_children() == []


def test_processes_end_with_a_main_process_that_is_killed(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(drivers, "START_METHOD", "fork")
    slow = partial(StandIn, seconds=0.2)
    main = multiprocessing.get_context("fork").Process(target=_told, args=(parts, tmp_path, slow))
    main.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    main.kill()
    main.join()
    worker = int((tmp_path / "pid").read_text())
    while os.path.exists(f"/proc/{worker}/fd/0") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline, "it goes on without a main process"


def _told(parts, output, teacher):
    """Runs in a process that is killed; writes the id of its own process."""
    run = label_in_processes(parts, output, teacher, settings(), 1)
    next(run)
    (child,) = multiprocessing.active_children()
    partial_file = output / "pid.part"
    partial_file.write_text(str(child.pid))
    partial_file.rename(output / "pid")
    list(run)
