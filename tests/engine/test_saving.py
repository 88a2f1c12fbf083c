"""A run that is killed or stopped, wherever, ends as the one that was left alone: bit by bit."""

import os
import signal

import pytest
import torch

import glipv2_d2.checkpoint.checkpointer as checkpointer_module
from glipv2_d2.engine import evaluate
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import ConfigError
from tests.support.tiny_data import CONFIG, differences, lines, load, losses

RANDOM = CONFIG.with_name("tiny_random.py")
OPTIONS = (
    *("--config-file", str(RANDOM), "train.max_iter=9", "train.checkpointer.period=2"),
    *("train.eval_period=3", "train.best_metric=bbox/AP", "model.head.prior_prob=0.5"),
)


class Killed(BaseException):
    """Stands in for SIGKILL, in this process."""


def files(folder):
    """TensorBoard writes a file for each start."""
    return {name for name in os.listdir(folder) if "tfevents" not in name}


@pytest.fixture(scope="module")
def undisturbed():
    return {}


@pytest.fixture
def runs(run_train_net, undisturbed, module_path):
    """The undisturbed run's folder, and a function that runs and is killed at the n-th call."""
    if not undisturbed:
        undisturbed["folder"] = run_train_net(*OPTIONS, output=module_path)

    def killed_at(owner, name, call, *options):
        calls, function = [], getattr(owner, name)

        def counted(*args, **kwargs):
            calls.append(name)
            if len(calls) == call:
                raise Killed
            return function(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, counted)
            # Which a kill does not let run; the writers would flush there.
            patch.setattr(GLIPTrainer, "after_train", lambda self: None)
            run_train_net(*options, *OPTIONS)

    return undisturbed["folder"], killed_at


def test_killed_runs_end_bit_identical(runs, run_train_net):
    whole, killed_at = runs
    killed_at(GLIPTrainer, "run_step", 5)  # in iteration 4
    killed_at(checkpointer_module.torch, "save", 1, "--resume")  # after iteration 5
    killed_at(evaluate, "inference_on_dataset", 1, "--resume")  # after that save
    killed_at(GLIPTrainer, "run_step", 1, "--resume")  # that evaluation is made up first
    killed_at(checkpointer_module.torch, "save", 2, "--resume")  # model_final.pth
    folder = run_train_net("--resume", *OPTIONS)
    assert files(folder) == files(whole)
    for name in ("model_final.pth", "model_best.pth", "model_0000007.pth"):
        assert not differences(load(whole / name), load(folder / name))
    assert losses(folder) == losses(whole)
    assert lines(folder) == lines(whole)


def test_a_kill_while_model_final_is_overwritten(run_train_net, monkeypatch):
    """README's sequence, a run that is gone on with, whose end falls on the checkpoint period."""
    folder = run_train_net("train.max_iter=2")
    save = torch.save

    def killed(content, file):
        if content["iteration"] == 3:
            raise Killed
        save(content, file)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpointer_module.torch, "save", killed)
        run_train_net("--resume", "train.max_iter=4")
    assert load(folder / "model_final.pth")["iteration"] == 1
    run_train_net("--resume", "train.max_iter=4")
    assert load(folder / "model_final.pth")["iteration"] == 3
    assert sorted(losses(folder)) == [0, 1, 2, 3]


def test_a_signal_saves_at_the_end_of_the_iteration(runs, run_train_net, monkeypatch, caplog):
    whole, _ = runs
    monkeypatch.setattr("sys.argv", ["train_net.py", "--num-gpus", "0", "train.max_iter=9"])
    step = GLIPTrainer.run_step

    def signaled(self):
        if self.iter in signals:
            os.kill(os.getpid(), signals.pop(self.iter))
        step(self)

    before = signal.getsignal(signal.SIGINT)
    signals = {2: signal.SIGINT, 4: signal.SIGTERM}
    monkeypatch.setattr(GLIPTrainer, "run_step", signaled)
    with pytest.raises(SystemExit) as ended:
        run_train_net(*OPTIONS)
    assert ended.value.code == 130
    assert "to go on: python train_net.py --resume --num-gpus 0 train.max_iter=9" in caplog.text
    with pytest.raises(SystemExit) as ended:
        run_train_net("--resume", *OPTIONS)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGINT) is before  # ignored, where a shell started this aside
    folder = run_train_net("--resume", *OPTIONS)
    assert not differences(load(whole / "model_final.pth"), load(folder / "model_final.pth"))
    assert lines(folder) == lines(whole)


def test_a_signal_ends_an_evaluation_which_is_made_up_for(runs, run_train_net, monkeypatch):
    whole, _ = runs

    def signaled(*args):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(evaluate, "inference_on_dataset", signaled)
        run_train_net(*OPTIONS)
    folder = run_train_net("--resume", *OPTIONS)
    assert not differences(load(whole / "model_final.pth"), load(folder / "model_final.pth"))
    assert lines(folder) == lines(whole)


def test_a_finished_run_is_not_trained_again(run_train_net, caplog, monkeypatch):
    options = ("train.max_iter=2", "train.eval_period=0")
    folder = run_train_net(*options)
    written = ("model_final.pth", "last_checkpoint", "last_results.json", "metrics.json")
    before = {name: (folder / name).read_bytes() for name in written}
    monkeypatch.setattr(GLIPTrainer, "run_step", lambda self: pytest.fail("trained"))
    run_train_net("--resume", *options)
    assert "Nothing is left to train" in caplog.text and "raise train.max_iter" in caplog.text
    assert {name: (folder / name).read_bytes() for name in written} == before
    # The evaluation after the training, if a kill has left it out.
    (folder / "last_results.json").unlink()
    run_train_net("--resume", *options)
    assert (folder / "last_results.json").read_bytes() == before["last_results.json"]


def test_nothing_to_resume_is_said(run_train_net, caplog):
    run_train_net("--resume", "train.max_iter=1")
    assert "holds no checkpoint, so that the training starts at iteration 0" in caplog.text


def test_a_run_is_not_written_over_by_another(run_train_net):
    folder = run_train_net("train.max_iter=1")
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    with pytest.raises(ConfigError, match="holds checkpoints of another run.*--resume"):
        run_train_net("train.max_iter=2")
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


def test_a_checkpoint_of_another_optimizer_is_not_resumed(run_train_net):
    run_train_net("train.max_iter=1")
    with pytest.raises(ConfigError, match="--resume from '.*model_final.pth': .*parameter group"):
        run_train_net("--resume", "train.max_iter=2", "optimizer.params.lr_by_prefix={neck: 0.1}")


def test_a_short_run_has_checkpoints_and_old_ones_are_deleted(run_train_net):
    options = ("train.checkpointer.max_to_keep=2", "train.checkpointer.period=5000")
    folder = run_train_net("train.max_iter=10", *options)  # a quarter of 10, rounded up
    assert {n for n in files(folder) if n.startswith("model")} == {
        "model_0000005.pth", "model_0000008.pth", "model_final.pth",
    }  # fmt: skip
    run_train_net("--resume", "train.max_iter=14", *options)  # and those of the run before
    assert {n for n in files(folder) if n.startswith("model")} == {
        "model_0000008.pth", "model_0000011.pth", "model_final.pth",
    }  # fmt: skip
