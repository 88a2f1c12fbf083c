"""The options of `glip train` and `glip eval`, and what the training gets of them."""

import pytest

from glip_commands.command import MODES
from glip_commands.main import main
from glip_commands.train import parse
from glipv2_d2.engine import training, transfer


@pytest.fixture
def given(monkeypatch):
    """What the training is started with."""
    started = []
    monkeypatch.setattr(training, "launch_training", lambda args: started.append(args) or 0)
    return started


def test_eval_is_train_without_training(given):
    options = ["--config-file", "a.py", "--num-gpus", "0", "model.x=1"]
    assert main(["train", *options, "--eval-only", "train.init_checkpoint=w.pth"]) == 0
    assert main(["eval", *options, "--weights", "w.pth"]) == 0
    assert given[0] == given[1] and given[0].eval_only
    assert given[1].opts == ["model.x=1", "train.init_checkpoint=w.pth"]


def test_defaults_are_detectron2s():
    """But for the port: two runs of one machine would collide."""
    from detectron2.engine import default_argument_parser

    theirs, ours = vars(default_argument_parser().parse_args([])), vars(parse([]))
    assert theirs.keys() <= ours.keys()
    assert {k: ours[k] for k in theirs} == {**theirs, "dist_url": "auto"}


def test_options_may_stand_behind_overrides():
    given = ["train.max_iter=3", "--resume", "optimizer.lr=-1", "--num-gpus", "0"]
    args = parse(["--config-file", "a.py", *given])
    assert args.resume and args.num_gpus == 0
    assert args.opts == ["train.max_iter=3", "optimizer.lr=-1"]


def test_the_modes_of_transfer_are_all_offered():
    assert tuple(transfer.MODES) == MODES
