"""Two CPU processes train as one does at the same total batch, and say as clearly what is wrong."""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from omegaconf import OmegaConf

from glip_commands.main import main
from glip_commands.train import parse
from glipv2_d2.checkpoint import read_checkpoint
from glipv2_d2.compat import create_ddp_model, launch
from glipv2_d2.engine import training
from glipv2_d2.engine.evaluate import require_test_data
from glipv2_d2.engine.setup import find_resumed
from glipv2_d2.errors import UserError
from tests.support import ROOT, recording_run
from tests.support.tiny_data import CONFIG, losses, write_tiny_data


@pytest.mark.slow
def test_two_processes_equal_one(tiny_data, tmp_path, monkeypatch):
    """And those that torchrun starts are the same two, not two runs in one folder."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folders = {}
    for count in (1, 2):
        folders[count] = tmp_path / str(count)
        args = parse(
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
    for log in ("log.txt", "log.txt.rank1"):
        assert "glipv2_d2.data.build INFO: Training on tiny" in (folders[2] / log).read_text()

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
def test_what_is_wrong_is_one_line_with_several_processes_too(
    tiny_data, tmp_path, monkeypatch, capfd
):
    """Also where the data workers of both raise it."""
    options = ["model.language_backbone.max_tokens=3", "dataloader.train.num_workers=1"]
    message = r"the prompt '.*'.* with 3 phrases has 10 tokens, the limit is 3: .*"

    command = ["train", "--config-file", str(CONFIG), "--num-gpus", "0"]
    command += ["--num-processes", "2", f"train.output_dir={tmp_path}", *options]
    monkeypatch.setattr(training, "main", recording_run.main)  # importable by the processes
    assert main(command) == 2
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert re.fullmatch(f"error: {message}", printed.err.splitlines()[-1])


@pytest.mark.slow
def test_test_images_are_looked_at_by_one_of_several_processes(tmp_path, monkeypatch, capfd):
    """And all fail alike."""
    write_tiny_data(tmp_path)
    (tmp_path / "003.png").unlink()
    monkeypatch.setenv("TINY_DATA", str(tmp_path))  # of the processes
    command = ["train", "--config-file", str(CONFIG), "--num-gpus", "0"]
    command += ["--num-processes", "2", f"train.output_dir={tmp_path}/run", "train.eval_period=2"]
    monkeypatch.setattr(training, "main", recording_run.main)
    assert main(command) == 2
    printed = capfd.readouterr().err
    assert "error: 1 of 10 test images cannot be evaluated:\n" in printed
    assert "003.png" in printed and "Traceback" not in printed


class Outputs(DatasetEvaluator):
    """What the model gave in each process."""

    def process(self, inputs, outputs):
        self.given = outputs.item()

    def evaluate(self):
        given = comm.gather(self.given)
        return {"outputs": dict(zip(("first", "second"), given))} if given else {}


def failing(folder):
    """One of two processes, of which the second has no data, as on another machine."""
    (folder / "model_0000001.pth").write_bytes(b"half a file")
    config = {"output_dir": str(folder), "max_iter": 3}
    register_coco_instances("of_test", {}, str(folder / f"{comm.get_rank()}.json"), str(folder))
    sets = {"test": L(batches)(dataset="of_test"), "evaluator": L(Outputs)()}
    told = []
    for work in (
        lambda: find_resumed(OmegaConf.create({"train": config})),
        lambda: require_test_data(OmegaConf.create(sets, flags={"allow_objects": True})),
    ):
        try:
            work()
        except UserError as error:
            told.append([type(error).__name__, str(error)])
    (folder / f"{comm.get_rank()}.told").write_text(json.dumps(told))


def test_what_one_process_cannot_find_ends_both_alike(tmp_path, quick_processes):
    (tmp_path / "0.json").write_text('{"images": [], "annotations": [], "categories": []}')
    patience = timedelta(seconds=30)  # the other one would wait for so long
    launch(failing, 0, num_processes=2, dist_url="auto", args=(tmp_path,), timeout=patience)
    first, second = (json.loads((tmp_path / f"{rank}.told").read_text()) for rank in (0, 1))
    assert first == second
    (kind, _), (other, missing) = first
    assert (kind, other) == ("CheckpointError", "DataError")
    assert f"of_test: there is no {tmp_path}/1.json" in missing


def batches(dataset=None):
    return [torch.ones(1, 1)]


def evaluated_while_training(folder):
    """One of two processes, whose BatchNorm sees other images than the other's."""
    model = torch.nn.BatchNorm1d(1)
    parallel = create_ddp_model(model, broadcast_buffers=False)
    parallel(torch.randn(8, 1) + 10 * comm.get_rank())
    data = {"test": L(batches)(), "evaluator": L(Outputs)()}
    config = {"train": {"device": "cpu", "output_dir": str(folder)}, "dataloader": data}
    training.do_test(OmegaConf.create(config, flags={"allow_objects": True}), model)
    if comm.is_main_process():
        torch.save(model.state_dict(), folder / "saved.pth")


def test_what_two_processes_evaluate_is_what_is_saved(tmp_path, quick_processes):
    """The statistics of BatchNorm, too, which each process has its own of."""
    launch(evaluated_while_training, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    found = json.loads((tmp_path / "last_results.json").read_text())["outputs"]
    saved = torch.nn.BatchNorm1d(1).eval()
    saved.load_state_dict(torch.load(tmp_path / "saved.pth"))
    expected = saved(torch.ones(1, 1)).item()
    assert found == pytest.approx({"first": expected, "second": expected})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-gpus", "2"], "error: 2 GPUs are asked for and PyTorch sees 0; several processes"),
        (["--num-machines", "2"], "error: 2 machines need one explicit --dist-url"),
        (["train.max_iter"], "error: the overrides train.max_iter cannot be applied"),
    ],
)
def test_a_wrong_command_line_is_one_line(options, message, tiny_data, monkeypatch, capsys):

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    command = ["train", "--config-file", str(CONFIG), *options]
    assert main(command) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message) and printed.count("\n") == 1
