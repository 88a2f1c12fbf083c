"""The range test on made-up losses, and `glip lr-find` on the tiny model."""

import csv

import pytest
import torch
from detectron2.engine import TrainerBase
from PIL import Image

from glip_commands.main import main
from glipv2_d2.engine.lr_finder import RangeTest, suggested_rate
from glipv2_d2.errors import UsageError
from glipv2_d2.signals import StopSignals
from tests.support.tiny import tiny_model
from tests.support.tiny_data import CONFIG


class Trainer(TrainerBase):
    """Nothing is trained; the loss of each iteration is a function of the rate."""

    def __init__(self, loss, folder, **limits):
        super().__init__()
        groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.001}]
        self.optimizer = torch.optim.SGD(groups, lr=0.01)
        self.loss, self.ratios = loss, set()
        limits = {"lowest": 1e-6, "highest": 1.0, **limits}
        self.test = RangeTest(0.01, output_dir=str(folder), **limits)
        self.register_hooks([self.test])

    def run_step(self):
        rate, tenth = (group["lr"] for group in self.optimizer.param_groups)
        self.ratios.add(round(tenth / rate, 9))
        self.storage.put_scalar("total_loss", self.loss(rate, self.iter))


def bowl(rate, iteration):
    """Falls to 1 at a rate of 0.01, and grows; every seventh batch stands out."""
    loss = 3 - 2 * rate / 0.01 if rate < 0.01 else 100 * rate
    return loss + (50 if iteration % 7 == 0 else 0)


def rows(folder):
    with open(folder / "lr_find.csv", newline="") as file:
        return [list(map(float, row)) for row in list(csv.reader(file))[1:]]


def test_a_range_test_ends_where_the_loss_explodes(tmp_path, caplog):
    trainer = Trainer(bowl, tmp_path)
    with caplog.at_level("INFO", "glipv2_d2"), pytest.raises(BaseException, match="4 times"):
        trainer.train(0, 200)
    rates = [row[0] for row in rows(tmp_path)]
    assert len(rates) == trainer.iter + 1 < 190
    assert rates[0] == pytest.approx(1e-6)
    assert rates[10] / rates[9] == pytest.approx(1e6 ** (1 / 199))
    assert trainer.ratios == {0.1}
    suggestion = suggested_rate(rates, [row[2] for row in rows(tmp_path)])
    assert 0.001 < suggestion < 0.002  # a tenth of 0.01, and the smoothing is late
    assert f"Suggestion: optimizer.lr={suggestion:.2g}" in caplog.text
    assert "still falls" not in caplog.text
    assert Image.open(tmp_path / "lr_find.png").size[0] > 300


def test_a_loss_that_still_falls_or_never_does(tmp_path, caplog):
    with caplog.at_level("INFO", "glipv2_d2"):
        Trainer(lambda rate, i: 3 - rate, tmp_path, highest=0.1).train(0, 20)
        assert "The loss still falls at the highest rate, 0.1" in caplog.text
        caplog.clear()
        Trainer(lambda rate, i: 3 + i / 10, tmp_path, highest=0.1).train(0, 20)
    assert "does not fall from the rate 1e-06 on" in caplog.text
    assert "Suggestion" not in caplog.text


def test_a_signal_ends_it_with_what_there_is(tmp_path):
    trainer = Trainer(lambda rate, i: 3 - rate, tmp_path)
    trainer.test.stop = StopSignals()
    trainer.loss = lambda rate, i: setattr(trainer.test.stop, "number", 2 if i == 14 else None) or 1
    with pytest.raises(BaseException, match="told to stop"):
        trainer.train(0, 100)
    assert len(rows(tmp_path)) == 15


@pytest.mark.parametrize("limits", [{"lowest": 0}, {"lowest": 1, "highest": 0.1}])
def test_rates_that_do_not_rise_are_refused(limits, tmp_path):
    with pytest.raises(UsageError, match="0 < --lowest < --highest is wanted, got "):
        Trainer(bowl, tmp_path, **limits)


@pytest.mark.parametrize("mode", [(), ("--mode", "prompt")])
def test_the_command_leaves_a_curve_and_no_weights(mode, tiny_data, tmp_path):
    start = tmp_path / "start.pth"
    torch.save({"model": tiny_model(seed=1).state_dict()}, start)
    before = start.read_bytes()
    command = ["lr-find", "--config-file", str(CONFIG), "--num-gpus", "0", "--iterations", "12"]
    command += ["--lowest", "1e-6", "--highest", "1e-4", f"train.init_checkpoint={start}"]
    assert main([*command, *mode, f"train.output_dir={tmp_path}/run"]) == 0
    assert len(rows(tmp_path / "run/lr_find")) == 12
    assert start.read_bytes() == before
    assert not [p for kind in ("pth", "safetensors") for p in (tmp_path / "run").rglob(f"*.{kind}")]


def test_too_few_iterations_are_refused(tiny_data, tmp_path, capsys):
    command = ["lr-find", "--config-file", str(CONFIG), "--num-gpus", "0", "--iterations", "3"]
    assert main([*command, f"train.output_dir={tmp_path}/run"]) == 2
    assert capsys.readouterr().err == "error: --iterations must be at least 10, got 3\n"


def test_fsdp_with_one_process_is_refused_as_in_a_training(tiny_data, tmp_path, capsys):
    command = ["lr-find", "--config-file", str(CONFIG), "--num-gpus", "0", "train.fsdp=True"]
    assert main([*command, f"train.output_dir={tmp_path}/run"]) == 2
    assert "error: train.fsdp=True cuts a model over processes, and there is" in (
        capsys.readouterr().err
    )
