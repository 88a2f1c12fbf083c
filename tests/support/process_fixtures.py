"""Processes that have imported the package already, which is what takes the time to start some."""

import multiprocessing
import os

import pytest
import torch

from glipv2_d2 import compat


@pytest.fixture
def quick_processes(monkeypatch):
    """`compat.launch` forks its processes from one that has imported the package.

    They have one thread and the environment of the test; what they print is not in `capfd`. Tests
    of the start itself take it as it is.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    multiprocessing.set_forkserver_preload(["glipv2_d2.engine"])
    monkeypatch.setattr(compat.mp, "spawn", _fork)


def _fork(function, args=(), nprocs=1, daemon=False):
    """As `torch.multiprocessing.spawn`."""
    torch.multiprocessing.start_processes(
        _in_environment,
        (dict(os.environ), function, args),
        nprocs,
        daemon=daemon,
        start_method="forkserver",
    )


def _in_environment(rank, environment, function, args):
    """Those that are forked would have the environment of the first test that started some."""
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(rank, *args)
