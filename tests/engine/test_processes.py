"""Two CPU processes train as one does at the same total batch."""

import pytest
import torch

from glipv2_d2.checkpoint import read_checkpoint
from glipv2_d2.compat import launch
from glipv2_d2.engine.setup import argument_parser
from tests.engine import recording_run
from tests.engine.conftest import CONFIG
from tests.engine.tiny_data import losses


@pytest.mark.slow
def test_two_processes_equal_one(tiny_data, tmp_path, monkeypatch):
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
