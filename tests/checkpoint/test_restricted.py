"""Files that would run code: nothing of it happens, and the weights beside it are read."""

import io
import os
import pickle
import sys
from collections import Counter, defaultdict, deque

import pytest
import torch

from glipv2_d2.checkpoint import read_checkpoint, weight_names
from glipv2_d2.checkpoint.restricted import StandIn, restricted_pickle
from glipv2_d2.errors import CheckpointError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.filterwarnings("ignore::torch.serialization.SourceChangeWarning"),
]


class Runs:
    """Unpickled by the usual means, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Scheduler:
    """What training code leaves in a checkpoint: state of a class that is nowhere here."""

    unpickled = 0

    def __init__(self):
        self.base_lrs = [1e-4]

    def __setstate__(self, state):
        type(self).unpickled += 1


@pytest.fixture
def traces(tmp_path):
    """Malicious objects, and a function that says whether one of them ran."""
    mark = tmp_path / "mark"
    objects = {
        "os.system": Runs(os.system, f"touch {mark}"),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "nested": [{"a": (Runs(os.mkdir, str(mark)),)}],
        "setattr": Runs(setattr, torch.nn.Module, "forward", None),
    }
    return objects, mark.exists


def save(path, content, legacy, protocol=2):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["os.system", "eval", "nested", "setattr"])
def test_nothing_runs_and_the_weights_are_read(
    tmp_path, weights, traces, caplog, kind, legacy, protocol
):
    objects, ran = traces
    forward = torch.nn.Module.forward
    content = {"optimizer": objects[kind], "model": weights, "iteration": 7}
    path = save(tmp_path / "w.pth", content, legacy, protocol)
    read = read_checkpoint(path)
    assert set(read) == {"model"}
    assert all(torch.equal(read["model"][name], value) for name, value in weights.items())
    assert weight_names(path) == list(weights)
    assert not ran() and torch.nn.Module.forward is forward
    assert "left out: optimizer, iteration" in caplog.text
    assert "none of them was built or run" in caplog.text


def test_the_test_would_notice(tmp_path, traces):
    objects, ran = traces
    save(tmp_path / "w.pth", {"optimizer": objects["os.system"]}, legacy=False)
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert ran()


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_of_unknown_classes_beside_the_weights(tmp_path, weights, caplog, legacy):
    path = save(tmp_path / "w.pth", {"model": weights, "scheduler": Scheduler()}, legacy)
    assert set(read_checkpoint(path)) == {"model"}
    assert Scheduler.unpickled == 0
    assert f"{__name__}.Scheduler" in caplog.text


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        lambda weights, thing: {"model": {**weights, "anchors": thing}},
        lambda weights, thing: {**weights, "args": thing},
        lambda weights, thing: {"model": thing},
        lambda weights, thing: thing,
    ],
)
def test_among_the_weights_they_are_an_error(tmp_path, weights, content, legacy):
    path = save(tmp_path / "w.pth", content(weights, Scheduler()), legacy)
    for read in (read_checkpoint, weight_names):
        with pytest.raises(CheckpointError, match="Scheduler.*re-save only the weights"):
            read(path)
    assert Scheduler.unpickled == 0


def test_a_run_is_not_resumed_from_half_a_checkpoint(tmp_path, weights):
    path = save(tmp_path / "w.pth", {"model": weights, "trainer": Scheduler()}, legacy=False)
    with pytest.raises(CheckpointError, match="Scheduler"):
        read_checkpoint(path, complete=True)


def test_nothing_is_imported(tmp_path, weights, monkeypatch):
    (tmp_path / "imported_by_a_pickle.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import imported_by_a_pickle

    content = {"model": weights, "thing": imported_by_a_pickle.Thing()}
    path = save(tmp_path / "w.pth", content, legacy=False)
    del sys.modules["imported_by_a_pickle"], imported_by_a_pickle
    read_checkpoint(path)
    assert "imported_by_a_pickle" not in sys.modules


def test_functions_that_a_pickle_is_handed_are_not_torchs_own():
    """A pickle may set attributes of what it is handed, such as the defaults of a function."""
    unpickler = restricted_pickle(set()).Unpickler
    lookup = unpickler(io.BytesIO()).find_class
    assert lookup("torch._utils", "_rebuild_tensor_v2") is not torch._utils._rebuild_tensor_v2
    assert issubclass(lookup("torch.nn.parameter", "Parameter"), StandIn)
    assert issubclass(lookup("builtins", "eval"), StandIn)


def test_stand_ins_take_every_instruction_of_a_pickle():
    """Objects of each way to be pickled: built by call or by class, filled, and given a state."""
    values = [Counter("abca"), defaultdict(list, {"a": [1]}), deque([1, 2]), {1, 2}, 1j, range(3)]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        for value in values:
            found = set()
            data = pickle.dumps({"x": value, "y": 1}, protocol)
            loaded = restricted_pickle(found).load(io.BytesIO(data))
            assert loaded["y"] == 1 and (found or loaded["x"] == value)


def test_parameters_and_shared_storage_come_back(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    weights = {
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "view": base[1:, ::2],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "integers": torch.arange(3),
    }
    for legacy in (False, True):
        content = {"model": weights, "scheduler": Scheduler()}
        read = read_checkpoint(save(tmp_path / "w.pth", content, legacy))["model"]
        assert all(torch.equal(read[name], value.detach()) for name, value in weights.items())
        assert read["half"].dtype == torch.bfloat16
