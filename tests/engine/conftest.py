"""The tiny data set and the command line on it."""

import os
from functools import partial

import pytest
import torch
from detectron2.utils.events import JSONWriter

from tests.support.tiny_data import CONFIG, write_tiny_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny_data")
    write_tiny_data(folder)
    os.environ["TINY_DATA"] = str(folder)
    return folder


@pytest.fixture
def run_train_net(tiny_data, tmp_path, monkeypatch):
    """Runs `training.main` in this process; returns the output folder."""
    from glip_commands.train import parse
    from glipv2_d2.engine import hooks, training

    # The loss of each iteration, in place of the median of the last twenty.
    monkeypatch.setattr(hooks, "JSONWriter", partial(JSONWriter, window_size=1))

    def run(*options, output="run"):
        folder = tmp_path / output
        command = ["--config-file", str(CONFIG), "--num-gpus", "0", *options]
        torch.manual_seed(0)
        training.main(parse([*command, f"train.output_dir={folder}"]))
        return folder

    return run
