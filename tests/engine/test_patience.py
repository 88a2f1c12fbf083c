"""The hook that keeps the best model, lowers the rates and ends the training, on made-up values."""

import math

import pytest
import torch
from detectron2.engine import TrainerBase, hooks

from glipv2_d2.checkpoint import GLIPCheckpointer
from glipv2_d2.engine.patience import Patience, TrainingEnded
from glipv2_d2.engine.saving import Saving
from glipv2_d2.engine.schedule import warmup_multi_step
from glipv2_d2.errors import ConfigError
from glipv2_d2.signals import StopSignals


class Trainer(TrainerBase):
    """Nothing is trained; the n-th evaluation gives the n-th value."""

    def __init__(self, values, folder, metric="bbox/AP", **limits):
        super().__init__()
        self.model = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.rates, self.values = [], iter(values)
        constant = warmup_multi_step(max_iter=8, steps=(), warmup_iters=0)
        rates = hooks.LRScheduler(scheduler=constant)
        folder.mkdir(exist_ok=True)
        checkpointer = GLIPCheckpointer(self.model, str(folder))
        saving = Saving(checkpointer, StopSignals(), period=100)

        def evaluate():
            value = next(self.values)
            return value if isinstance(value, dict) else {"bbox": {"AP": value}}

        self.patience = Patience(metric, rates, checkpointer, 1, evaluate, saving, **limits)
        self.register_hooks([rates, self.patience])

    def run_step(self):
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        with torch.no_grad():
            self.model.bias.fill_(self.iter)
        self.optimizer.step()  # which the schedule wants to have seen


def best(folder):
    return torch.load(folder / "model_best.pth", weights_only=True)["model"]["bias"].item()


def test_the_best_model_is_kept_to_the_last_evaluation(tmp_path):
    Trainer([5, 7, 6], tmp_path).train(0, 3)
    assert best(tmp_path) == 1
    Trainer([5, 7, 8], tmp_path).train(0, 3)
    assert best(tmp_path) == 2
    Trainer([math.nan, 1, math.nan], tmp_path).train(0, 3)
    assert best(tmp_path) == 1


def test_rates_fall_when_nothing_improves(tmp_path):
    trainer = Trainer([5, 5, 5, 5, 5, 6, 6, 6], tmp_path, lower_rate=2)
    trainer.train(0, 8)
    # The third evaluation in a row that does not improve is that of iteration 3.
    assert trainer.rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])


def test_the_training_ends(tmp_path):
    trainer = Trainer([5, 4, 5, 4, 3, 9, 9], tmp_path, stop=2)
    with pytest.raises(TrainingEnded, match="below its best, 5.00, for 2 evaluations"):
        trainer.train(0, 7)
    assert trainer.iter == 4  # as good as the best is not below it
    assert best(tmp_path) == 2


def test_a_resumed_run_remembers(tmp_path):
    first = Trainer([5, 4, 5], tmp_path / "first", lower_rate=0, stop=3)
    first.train(0, 3)  # 5 and 4 are judged, the last one only compared with the best
    second = Trainer([4, 4, 4, 9], tmp_path / "second", lower_rate=0, stop=3)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.patience.load_state_dict(first.state_dict()["hooks"]["Patience"])
    with pytest.raises(TrainingEnded, match="below its best, 5.00, for 3"):
        second.train(3, 9)
    assert second.rates == pytest.approx([0.1, 0.01, 0.001])
    assert not (tmp_path / "second" / "model_best.pth").exists()  # the best was before


def test_an_unknown_metric(tmp_path):
    with pytest.raises(ConfigError, match="'bbox/AP51', which the evaluation.*gives: bbox/AP"):
        Trainer([1, 2, 3], tmp_path, metric="bbox/AP51").train(0, 3)


def test_the_mean_of_several_metrics_decides(tmp_path, caplog):
    values = [{"lvis": {"AP": a}, "flickr": {"R@1": r}} for a, r in ((5, 80), (20, 70), (9, 78))]
    both = ["lvis/AP", "flickr/R@1"]
    with caplog.at_level("INFO", "glipv2_d2"):
        Trainer(values, tmp_path / "both", metric=both).train(0, 3)
    assert best(tmp_path / "both") == 1  # 42.5, 45, 43.5
    assert "lvis/AP 20.00, flickr/R@1 70.00: their mean, 45.00, tells" in caplog.text
    Trainer(values, tmp_path / "one", metric=both[1:]).train(0, 3)
    assert best(tmp_path / "one") == 0
    with pytest.raises(
        TrainingEnded, match="the mean of lvis/AP and flickr/R@1 was below .* 45.00"
    ):
        Trainer(values, tmp_path / "stopped", metric=both, stop=1).train(0, 4)


def test_an_undefined_metric_among_several_is_no_best(tmp_path):
    values = [{"a": {"AP": 1.0}, "b": {"AP": 1.0}}, {"a": {"AP": 90.0}, "b": {"AP": math.nan}}]
    Trainer(values, tmp_path, metric=["a/AP", "b/AP"]).train(0, 2)
    assert best(tmp_path) == 0


@pytest.mark.parametrize("metrics", [["a/AP", 3], ["a/AP", ""], 3])
def test_what_is_no_list_of_names_is_refused(metrics, tmp_path):
    with pytest.raises(ConfigError, match="name of a metric or a list of names, got ('a/AP', )?"):
        Trainer([], tmp_path, metric=metrics)
