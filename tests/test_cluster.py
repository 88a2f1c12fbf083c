"""Processes that torchrun or srun has started find each other, or are told why they cannot."""

import json
import os

import pytest
import torch
from detectron2.engine.launch import _find_free_port

from glipv2_d2 import compat
from glipv2_d2.cluster import Place, place_in_job
from glipv2_d2.engine.saving import resuming_command
from glipv2_d2.errors import UsageError
from tests.support.two_processes import two_process_main

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
SRUN = {
    "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "3", "SLURM_NODEID": "1", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[03-05,9]", "SLURM_JOB_ID": "30007", "SLURM_STEP_ID": "2",
}  # fmt: skip


def test_torchrun():
    assert place_in_job(1, TORCHRUN) == Place("torchrun", 5, 8, 1, 4, "env://")


def test_srun():
    assert place_in_job(1, SRUN) == Place("srun", 3, 4, 1, 2, "tcp://gpu03:15009")
    told = {**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "7"}
    assert place_in_job(1, told).address == "tcp://10.0.0.1:7"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("a1,b2", "a1"), ("n[1,3-4]", "n1"), ("x[08-10]-ib", "x08-ib")],
)
def test_the_first_machine_of_a_list(nodes, first):
    address = place_in_job(1, {**SRUN, "SLURM_STEP_NODELIST": nodes}).address
    assert address == f"tcp://{first}:15009"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # the script of sbatch
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_process_that_stands_alone(environment):
    assert place_in_job(1, environment) is None


def test_machines_of_the_users_own_arrangement():
    assert place_in_job(4, SRUN) is None  # a task for each machine
    assert place_in_job(2, {"RANK": "1", "WORLD_SIZE": "2"}) is None


@pytest.mark.parametrize(
    ("machines", "environment", "message"),
    [
        (2, TORCHRUN, "one of 8 processes, and --num-machines 2 would start others"),
        (1, {"RANK": "1", "WORLD_SIZE": "2"}, "process 1 of 2 .*: start it with torchrun"),
        (1, {**SRUN, "SLURM_STEP_NUM_TASKS": "5"}, "5 tasks on 2 machines, not as many on each"),
        (1, {**SRUN, "SLURM_PROCID": "2"}, "--distribution=block"),
        (1, {**TORCHRUN, "MASTER_ADDR": ""}, "one of 8 processes, and lacks MASTER_ADDR: start"),
        (1, {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "lacks RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, "),
        (1, {**TORCHRUN, "RANK": "first"}, "variable RANK is 'first', where the number"),
        (1, {"RANK": "1", "WORLD_SIZE": "two"}, "variable WORLD_SIZE is 'two'"),
        (1, {**SRUN, "SLURM_STEP_NODELIST": ""}, "on which machine .*: set MASTER_ADDR"),
    ],
)
def test_what_cannot_be_joined_is_refused(machines, environment, message):
    with pytest.raises(UsageError, match=message):
        place_in_job(machines, environment)


@pytest.mark.parametrize(
    ("environment", "machines", "before"),
    [(TORCHRUN, 1, "torchrun ..."), (SRUN, 1, "srun ... python"), (SRUN, 2, "python")],
)
def test_a_stopped_job_goes_on_as_it_was_started(environment, machines, before, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_net.py", "--num-gpus", "0", "train.max_iter=9"])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = f"{before} train_net.py --resume --num-gpus 0 train.max_iter=9"
    assert resuming_command(machines) == expected


@pytest.mark.parametrize("program", ["/site/bin/glip", "/site/glip_commands/__main__.py"])
def test_a_stopped_glip_train_goes_on_as_one(program, monkeypatch):
    monkeypatch.setattr("sys.argv", [program, "train", "--num-gpus", "0"])
    assert resuming_command() == "glip train --resume --num-gpus 0"


@pytest.mark.parametrize("numbers", [{"num_gpus_per_machine": 8}, {"num_processes": 3}])
def test_other_numbers_than_those_that_were_started(numbers, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="torchrun started 4 processes on this machine, and --num"):
        compat.launch(print, **{"num_gpus_per_machine": 0, **numbers})


def test_fewer_gpus_than_processes(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="torchrun started 4 processes .* PyTorch sees 2 GPUs"):
        compat.launch(print, 1)


def task_of_srun(rank, port, folder):
    step = {**SRUN, "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0"}
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), **here)
    compat.launch(two_process_main, 0, args=(folder,))


def test_two_tasks_of_srun_are_one_job(tmp_path, quick_processes):
    torch.multiprocessing.spawn(task_of_srun, args=(_find_free_port(), tmp_path), nprocs=2)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ranks"] == [[0, 0, 2], [1, 1, 2]]
    assert report["everyone"] == [0, 1]
