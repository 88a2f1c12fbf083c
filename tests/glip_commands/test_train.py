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
    monkeypatch.setattr(training, "launch_training", lambda args, *_: started.append(args) or 0)
    return started


def test_eval_is_train_without_training(given, tmp_path):
    weights = tmp_path / "w.pth"
    weights.touch()
    options = ["--config-file", "a.py", "--num-gpus", "0", "model.x=1"]
    assert main(["train", *options, "--eval-only", f"train.init_checkpoint={weights}"]) == 0
    assert main(["eval", *options, "--weights", str(weights)]) == 0
    assert given[0] == given[1] and given[0].eval_only
    assert given[1].opts == ["model.x=1", f"train.init_checkpoint={weights}"]


def test_a_model_by_its_name_is_config_and_start(given):
    from glipv2_d2.model_zoo import find_model

    found = find_model("glip_scenes")
    for command in ("train", "eval", "lr-find"):
        assert main([command, "--model", "glip_scenes", "--num-gpus", "0"]) == 0
    assert main(["train", "--config-file", "a.py", "--weights", "glip_scenes"]) == 0
    assert [args.config_file for args in given] == [found.config] * 3 + ["a.py"]
    assert all(args.opts == [f"train.init_checkpoint={found.weights}"] for args in given)


def test_an_address_of_weights_is_handed_on(given):
    backbone = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert main(["train", "--config-file", "a.py", "--weights", backbone]) == 0
    assert given[0].opts == [f"train.init_checkpoint={backbone}"]


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
