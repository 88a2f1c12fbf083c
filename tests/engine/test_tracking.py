"""The scalars of a run in a tracker: once each, and in the same run after it was resumed."""

import json
import sys
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

from glipv2_d2.engine.tracking import (
    MlflowWriter,
    TrackingWriter,
    WandbWriter,
    build_trackers,
    require_trackers,
)
from glipv2_d2.errors import ConfigError, MissingPackageError


class Recorder(TrackingWriter):
    name, _remedy = "recorder", "plug it in"

    def _begin(self, folder, run):
        self.logged = []
        return run or f"run of {folder.name}"

    def _log(self, values, iteration):
        if values.get("total_loss") == 2:
            raise OSError("the server is away")
        self.logged.append((iteration, values))


def write(writer, start, stop, step=1):
    """`total_loss` is the iteration; written every `step` iterations."""
    with EventStorage(start) as storage:
        for iteration in range(start, stop):
            storage.put_scalar("total_loss", iteration, smoothing_hint=False)
            if (iteration + 1) % step == 0:
                writer.write()
                writer.write()  # as at the end of a training, when there is nothing new
            storage.step()


def test_each_scalar_once_and_a_server_that_is_away_ends_nothing(tmp_path, caplog):
    writer = Recorder(str(tmp_path))
    write(writer, 0, 4)
    assert writer.logged == [(i, {"total_loss": i}) for i in (0, 1, 3)]
    assert caplog.messages == [
        "recorder has not taken the scalars of iteration 2, which metrics.json has: the server is "
        "away"
    ]


def test_a_resumed_training_goes_on_with_its_run_and_a_new_one_does_not(tmp_path):
    path = tmp_path / "tracked_runs.json"
    path.write_text('{"recorder": "abc", "other": "xyz"}')
    Recorder(str(tmp_path), resumed=True)
    assert json.loads(path.read_text()) == {"recorder": "abc", "other": "xyz"}
    Recorder(str(tmp_path))
    assert json.loads(path.read_text())["recorder"] == f"run of {tmp_path.name}"


def test_a_run_that_is_not_begun_is_one_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no key\nhere.")

    monkeypatch.setattr(Recorder, "_begin", refuse)
    message = "recorder does not begin a run: RuntimeError: no key here; plug it in, or take it"
    with pytest.raises(ConfigError, match=message):
        Recorder(str(tmp_path))


@pytest.mark.parametrize("names", [["wandbb"], "wandb"])
def test_other_names_are_refused(names):
    with pytest.raises(ConfigError, match="list of names among 'wandb', 'mlflow', .*; got '"):
        require_trackers(names)


def test_a_package_that_is_missing_is_said_before_the_training(run_train_net, monkeypatch):
    monkeypatch.setattr("glipv2_d2.engine.tracking.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"'mlflow', .* pip install 'glipv2_d2\[mlflow\]"):
        run_train_net("train.writers=[mlflow]", "dataloader.train.datasets=[absent]")


def test_mlflow_gets_names_that_it_takes(tmp_path, monkeypatch):
    """A stand-in for the package, which is not installed here."""
    logged, runs = [], []
    (tmp_path / "config.yaml").write_text("a: 1")
    fake = SimpleNamespace(
        start_run=lambda **run: runs.append(run) or SimpleNamespace(info=SimpleNamespace(run_id=7)),
        log_artifact=logged.append,
        log_metrics=lambda values, step: logged.append((step, values)),
        end_run=lambda: logged.append("end"),
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    writer = MlflowWriter(str(tmp_path))
    writer._log({"flickr/R@1-people": 3.0, "bbox/AP of [a]": 1.0}, 5)
    writer.close()
    config = str(tmp_path / "config.yaml")
    metrics = (5, {"flickr/R_1-people": 3.0, "bbox/AP of _a_": 1.0})
    assert logged == [config, metrics, "end"]
    MlflowWriter(str(tmp_path), resumed=True)
    assert runs == [
        {"run_id": None, "run_name": tmp_path.name}, {"run_id": 7, "run_name": None}
    ]  # fmt: skip


def test_wandb_counts_iterations_by_itself(tmp_path, monkeypatch):
    """A stand-in for the package, which is not installed here."""
    logged, runs = [], []
    run = SimpleNamespace(
        id="abc",
        define_metric=lambda name, step_metric: logged.append((name, step_metric)),
        log=logged.append,
        finish=lambda: logged.append("end"),
    )
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **options: runs.append(options) or run)
    )
    (writer,) = build_trackers(["wandb"], str(tmp_path))
    assert isinstance(writer, WandbWriter)
    write(writer, 0, 2, step=2)
    writer.close()
    build_trackers(["wandb"], str(tmp_path), start_iter=1)
    metrics = {"total_loss": 1, "iteration": 1}
    assert logged == [("*", "iteration"), metrics, "end", ("*", "iteration")]
    assert [options["id"] for options in runs] == [None, "abc"]
