"""Two CPU processes train as one does at the same total batch, and say as clearly what is wrong."""

import json
import os
import subprocess
import sys

import pytest
import torch

from glipv2_d2.checkpoint import read_checkpoint
from glipv2_d2.compat import launch
from glipv2_d2.engine.setup import argument_parser
from tests.engine import recording_run
from tests.engine.conftest import CONFIG, ROOT
from tests.engine.tiny_data import losses


@pytest.mark.slow
def test_two_processes_equal_one(tiny_data, tmp_path, monkeypatch):
    """And those that torchrun starts are the same two, not two runs in one folder."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folders = {}
    for count in (1, 2):
        folders[count] = tmp_path / str(count)
        args = argument_parser().parse_args(
            ["--config-file", str(CONFIG), "--num-gpus", "0", "--num-processes", str(count)]
            + [f"train.output_dir={folders[count]}", "train.max_iter=3"]
        )
        launch(recording_run.main, 0, num_processes=count, args=(args,), dist_url="auto")
    one, two = (losses(folders[count]) for count in (1, 2))
    assert sorted(one) == [0, 1, 2]
    assert two == pytest.approx(one, abs=1e-4)
    one, two = (read_checkpoint(folders[count] / "model_final.pth") for count in (1, 2))
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, atol=2e-4, rtol=1e-3)
    assert set(two["ema"]["shadow"]) == set(one["ema"]["shadow"])

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = ["--nproc_per_node=2", "train_net.py", "--config-file", str(CONFIG), "--num-gpus=0"]
    command += [f"train.output_dir={tmp_path / 'torchrun'}", "train.max_iter=3"]
    subprocess.run([*torchrun, *command], cwd=ROOT, env=with_package(), check=True)
    started = read_checkpoint(tmp_path / "torchrun/model_final.pth")
    assert all(torch.equal(started["model"][name], value) for name, value in two["model"].items())
    lines = (tmp_path / "torchrun/metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 1, 2]  # of one run


def with_package():
    """The environment of a process that imports this working copy."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.getenv("PYTHONPATH", "")])}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("optimizer.lr=-1", "error: optimizer: Invalid learning rate: -1"),
        ("train.init_checkpoint=no.pth", "error: There is no checkpoint 'no.pth'."),
    ],
)
def test_what_is_wrong_is_one_line_with_several_processes_too(
    option, message, tiny_data, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(ROOT))
    import train_net

    command = ["train_net.py", "--config-file", str(CONFIG), "--num-gpus", "0"]
    command += ["--num-processes", "2", f"train.output_dir={tmp_path}", option]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(train_net, "main", recording_run.main)  # importable by the processes
    with pytest.raises(SystemExit) as ended:
        train_net.invoke_main()
    assert str(ended.value) == message


def test_other_errors_of_a_process_keep_their_traceback(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from train_net import user_error_of

    user = "-- Process 0 ...\nTraceback (most recent call last):\n  File ...\n"
    data = "glipv2_d2.data.problems.DataError: 2 files are missing:\n  a\n  b\n"
    assert user_error_of(user + data) == "2 files are missing:\n  a\n  b"
    assert user_error_of(user + "KeyError: 'a'\n") is None
    during = "\nDuring handling of the above exception, another exception occurred:\n\n"
    assert user_error_of(user + data + during + user + "KeyError: 'a'\n") is None
    assert user_error_of(user + "KeyError: 'a'\n" + during + user + data).startswith("2 files")
