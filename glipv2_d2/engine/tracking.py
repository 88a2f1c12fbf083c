"""The scalars of a run in Weights & Biases or MLflow (`train.writers`), beside its own files."""

import json
import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventWriter, get_event_storage

from ..errors import ConfigError, MissingPackageError
from ..files import whole_file

__all__ = ["MlflowWriter", "TrackingWriter", "WandbWriter", "build_trackers", "require_trackers"]

logger = logging.getLogger(__name__)

_WINDOW = 20  # of the median, as Detectron2's writers have it
_RUNS = "tracked_runs.json"


class TrackingWriter(EventWriter):
    """Hands the scalars of a run to a tracker, each once, with their iterations.

    The run of the tracker is named after the output folder, and a training that is resumed goes on
    with it: its number is kept in `tracked_runs.json` of that folder. Where it is kept (server,
    project, offline) is said by the tracker's own environment variables.

    Args:
        output_dir: of the training; its `config.yaml` is kept with the run.
        resumed: go on with the run of the folder, where it has one.

    Raises:
        ConfigError: the tracker does not begin a run.
    """

    name: str
    _remedy: str

    def __init__(self, output_dir: str, resumed: bool = False):
        self._last_write = -1
        folder = Path(output_dir)
        path = folder / _RUNS
        runs = json.loads(path.read_text()) if path.is_file() else {}
        try:
            run = self._begin(folder, runs.get(self.name) if resumed else None)
        except Exception as error:  # of its own kinds, and of the network's
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(
                f"train.writers: {self.name} does not begin a run: {type(error).__name__}: "
                f"{reason}; {self._remedy}, or take it out of train.writers"
            ) from error
        with whole_file(path, "w") as file:
            json.dump({**runs, self.name: run}, file)

    def write(self) -> None:
        storage = get_event_storage()
        by_iteration: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in storage.latest_with_smoothing_hint(_WINDOW).items():
            if iteration > self._last_write:
                by_iteration.setdefault(iteration, {})[name] = float(value)
        for iteration in sorted(by_iteration):
            try:
                self._log(by_iteration[iteration], iteration)
            except Exception as error:  # a server that is away does not end a training
                text = "%s has not taken the scalars of iteration %d, which metrics.json has: %s"
                logger.warning(text, self.name, iteration, error)
            self._last_write = iteration

    def _begin(self, folder: Path, run: str | None) -> str:
        """Begin a run, or go on with one; returns its number."""
        raise NotImplementedError

    def _log(self, values: dict[str, float], iteration: int) -> None:
        raise NotImplementedError


class WandbWriter(TrackingWriter):
    """Weights & Biases; WANDB_PROJECT, WANDB_MODE=offline and its other variables count."""

    name = "wandb"
    _remedy = "log in by `wandb login`, or set WANDB_MODE=offline"

    def _begin(self, folder: Path, run: str | None) -> str:
        import wandb

        self._run: Any = wandb.init(dir=str(folder), name=folder.name, id=run, resume="allow")
        # Its own steps may not go back, as those of a resumed training do.
        self._run.define_metric("*", step_metric="iteration")
        if (config := folder / "config.yaml").is_file():
            self._run.save(str(config), base_path=str(folder), policy="now")
        return self._run.id

    def _log(self, values: dict[str, float], iteration: int) -> None:
        self._run.log({**values, "iteration": iteration})

    def close(self) -> None:
        self._run.finish()


class MlflowWriter(TrackingWriter):
    """MLflow; MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and its other variables count.

    Characters that it does not allow in a name become `_`: `R@1` is `R_1`.
    """

    name = "mlflow"
    _remedy = "set MLFLOW_TRACKING_URI to a server or file that it can write"

    def _begin(self, folder: Path, run: str | None) -> str:
        import mlflow

        self._mlflow: Any = mlflow
        active = mlflow.start_run(run_id=run, run_name=None if run else folder.name)
        if (config := folder / "config.yaml").is_file():
            mlflow.log_artifact(str(config))
        return active.info.run_id

    def _log(self, values: dict[str, float], iteration: int) -> None:
        named = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in values.items()}
        self._mlflow.log_metrics(named, step=iteration)

    def close(self) -> None:
        self._mlflow.end_run()


_TRACKERS = {kind.name: kind for kind in (WandbWriter, MlflowWriter)}


def require_trackers(names: Sequence[str]) -> None:
    """What `train.writers` names is there: said before anything is built.

    Raises:
        ConfigError: a name of none of them.
        MissingPackageError: its package is not installed.
    """
    for name in [names] if isinstance(names, str) else names:
        if name not in _TRACKERS or isinstance(names, str):
            raise ConfigError(
                f"train.writers is a list of names among {', '.join(map(repr, _TRACKERS))}, which "
                f"come beside the console, metrics.json and TensorBoard; got {name!r}"
            )
        if find_spec(name) is None:
            raise MissingPackageError(
                f"train.writers names {name!r}, and that package is not installed: "
                f"pip install 'glipv2_d2[{name}]'"
            )


def build_trackers(
    names: Sequence[str], output_dir: str, start_iter: int = 0
) -> list[TrackingWriter]:
    """The writers of these names; a run that is resumed goes on with its own."""
    return [_TRACKERS[name](output_dir, resumed=start_iter > 0) for name in names]
