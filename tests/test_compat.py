"""compat.py on whichever Detectron2 is installed: launch, DDP, test loader."""

import json
import os
import traceback
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from torch.multiprocessing import ProcessRaisedException

from glipv2_d2 import compat
from glipv2_d2.errors import DataError, UsageError
from tests.support.two_processes import TwoLosses, batch, two_process_main


def test_two_cpu_processes_equal_one(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    compat.launch(two_process_main, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ranks"] == [[0, 0, 2], [1, 1, 2]]
    assert report["everyone"] == [0, 1]
    assert report["threads"] == 1
    model = TwoLosses()
    loss = sum(model(batch(0, 4)).values())
    loss.backward()
    assert report["loss"] == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(torch.tensor(report["gradient"]), model.linear.weight.grad)


def threads_of_gloo():
    """Names of the native threads of this process that belong to a process group."""
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    return sorted(name for name in names if "gloo" in name)


def leaving_main(folder):
    """Use every group, then leave them, as a worker does at its end."""
    two_process_main(folder)
    before = threads_of_gloo()
    compat._leave_process_groups()
    (folder / f"threads_{os.getpid()}.json").write_text(json.dumps([before, threads_of_gloo()]))
    # The worker leaves once more after this function.
    compat._leave_process_groups = lambda: None


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_no_gloo_thread_outlives_a_worker(tmp_path, quick_processes):
    compat.launch(leaving_main, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    reports = [json.loads(path.read_text()) for path in tmp_path.glob("threads_*.json")]
    assert len(reports) == 2
    for before, after in reports:
        assert before
        assert after == []


def machine_main(folder):
    """On each of two "machines" with one process: who is where."""
    where = (comm.get_rank(), comm.get_local_rank(), comm.get_local_size())
    everyone = comm.all_gather(where)
    if comm.is_main_process():
        (folder / "machines.json").write_text(json.dumps(everyone))


def test_two_machines(tmp_path, quick_processes):
    url = f"file://{tmp_path / 'rendezvous'}"
    second = torch.multiprocessing.get_context("forkserver").Process(
        target=compat.launch, args=(machine_main, 0, 2, 1, url, (tmp_path,)), daemon=False
    )
    second.start()
    compat.launch(machine_main, 0, 2, 0, url, (tmp_path,))
    second.join(60)
    assert second.exitcode == 0
    assert json.loads((tmp_path / "machines.json").read_text()) == [[0, 0, 1], [1, 0, 1]]


def test_one_process_runs_here():
    seen = []
    compat.launch(seen.append, 0, args=(1,))
    compat.launch(seen.append, 1, args=(2,))
    assert seen == [1, 2]
    assert comm.get_world_size() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_gpus_per_machine": -1}, "cannot be negative"),
        ({"num_gpus_per_machine": 0, "num_processes": 0}, "start at 1"),
        ({"num_gpus_per_machine": 0, "num_machines": 2}, "--dist-url"),
        ({"num_gpus_per_machine": 0, "num_machines": 2, "machine_rank": 2}, "machine rank 2"),
        ({"num_gpus_per_machine": 1, "num_processes": 2}, "exclude each other"),
    ],
)
def test_contradicting_numbers_are_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        compat.launch(print, **arguments)


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="2 GPUs are asked for and PyTorch sees 0"):
        compat.launch(print, 2)


def test_a_users_error_comes_back_from_detectron2s_launch_too(monkeypatch):
    """With GPUs; its processes fail as they do in torch.multiprocessing.spawn."""

    def launch(main, gpus, machines, rank, url, args, timeout):
        assert (gpus, machines, rank, url) == (2, 1, 0, "auto")
        try:
            main(*args)
        except Exception:
            raise ProcessRaisedException(traceback.format_exc(), 1, 2) from None

    def main(kind):
        raise kind("no such thing")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(compat, "detectron2_launch", launch)
    with pytest.raises(DataError, match="^no such thing$"):
        compat.launch(main, 2, args=(DataError,))
    with pytest.raises(ProcessRaisedException, match="KeyError: 'no such thing'"):
        compat.launch(main, 2, args=(KeyError,))


def test_ddp_leaves_a_single_process_alone():
    model = TwoLosses()
    assert compat.create_ddp_model(model, broadcast_buffers=False) is model


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1])])
def test_test_loader_batches(size, lengths):
    records = [{"image_id": index} for index in range(5)]
    loader = compat.build_test_loader(
        records, mapper=lambda record: {"seen": record["image_id"]}, batch_size=size
    )
    batches = list(loader)
    assert [len(items) for items in batches] == lengths
    assert [item["seen"] for items in batches for item in items] == [0, 1, 2, 3, 4]
    assert len(loader) == len(lengths)


def test_who_registered_a_data_set_is_known_by_its_function():
    """Detectron2's COCO sets are read by our reader, functions of a user's own are called."""
    assert compat.registers_coco(DatasetCatalog["coco_2017_val"])
    for function in (list, list, json.loads, DatasetCatalog["lvis_v1_val"]):
        assert not compat.registers_coco(function)
