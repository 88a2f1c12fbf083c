"""One run of a sweep: `glip train` once or twice, and the file that says that it is finished."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog

from ...errors import UserError
from ...files import whole_file
from .plan import Run

RESULT = "result.json"
TRAINED = "trained"
# GLIP's README: evaluations without a better AP until the rate falls and until the training ends.
PATIENCE = {"few": (3, 8), "all": (2, 4)}


class RunFailed(UserError, RuntimeError):
    """`glip train` ended with an error."""


@dataclass(frozen=True)
class Settings:
    """What is common to the runs of a sweep.

    Attributes:
        config: LazyConfig of the model.
        weights: to start from.
        output: folder of the sweep.
        opts: overrides of the config.
        machine: arguments of `glip train` about GPUs and processes.
        caption_knowledge: use it (zero-shot only; models are fine-tuned with the plain names).
        epochs, batch: of fine-tuning.
        keep_weights: do not remove the fine-tuned weights of a finished run.
        old: data sets that every model is evaluated on, too: what could be done before.
        register: Python files that register the data sets, for `glip train`.
        data: what the results depend on of the data: file -> size and time.
    """

    config: str
    weights: str
    output: Path
    opts: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    caption_knowledge: bool = False
    epochs: int = 200
    batch: int = 4
    keep_weights: bool = False
    old: tuple[str, ...] = ()
    register: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What results depend on; a sweep that is taken up again must have the same."""
        weights = Path(self.weights)
        known = {
            "config": self.config,
            "weights": str(weights.resolve()),
            "overrides": [text for text in self.opts if ".num_workers=" not in text],
            "caption_knowledge": self.caption_knowledge,
            "epochs": self.epochs,
            "batch": self.batch,
        }
        if weights.is_file():
            known["weights_size_and_time"] = size_and_time(weights)
        # A sweep of the suite, as it was before there were others, has neither.
        known.update({k: v for k, v in (("old", list(self.old)), ("data", self.data)) if v})
        return known

    @property
    def common(self) -> list[str]:
        """Arguments of every `glip train`."""
        registered = [word for file in self.register for word in ("--register", file)]
        return ["--config-file", self.config, *self.machine, *registered]


def size_and_time(path: Path) -> list[int]:
    """Of a file, by which a change of it is noticed."""
    return [path.stat().st_size, path.stat().st_mtime_ns]


def evaluation_command(run: Run, settings: Settings, weights: str) -> list[str]:
    """Arguments of `glip train` that evaluate a run's model on both splits, and on the old sets."""
    knowledge = settings.caption_knowledge and run.shots == 0
    old = ("--old", ",".join(settings.old)) if settings.old else ()
    return [
        *settings.common,
        *("--eval", "configs/eval/odinw.py", "--eval-only", *_mode(run), *old),
        *settings.opts,
        f"evaluation.val={run.data.val}",
        f"evaluation.test={run.data.test}",
        f"evaluation.caption_knowledge={knowledge}",
        *_trained_on(run),
        f"train.init_checkpoint={weights}",
        f"train.output_dir={run.folder(settings.output) / 'evaluation'}",
    ]


def training_command(run: Run, settings: Settings) -> list[str]:
    """Arguments of `glip train` that fine-tune a run's model, or go on where that stopped."""
    train, select = run.training_sets() or ("", "")
    epoch = max(-(-len(DatasetCatalog.get(train)) * run.copies // settings.batch), 1)
    lower_rate, stop = PATIENCE["all" if run.shots is None else "few"]
    return [
        *settings.common,
        *("--tune", "configs/finetune/odinw.py", *_mode(run), "--resume"),
        f"train.max_iter={epoch * settings.epochs}",
        f"train.eval_period={epoch}",
        f"train.checkpointer.period={5 * epoch}",
        f"train.patience.lower_rate={lower_rate}",
        f"train.patience.stop={stop}",
        f"dataloader.train.total_batch_size={settings.batch}",
        *settings.opts,
        *_trained_on(run),
        f"dataloader.test.dataset='{select}'",
        f"train.init_checkpoint={settings.weights}",
        f"train.output_dir={run.folder(settings.output) / 'training'}",
    ]


def _mode(run: Run) -> list[str]:
    return ["--mode", run.mode] if run.shots != 0 and run.mode != "full" else []


def _trained_on(run: Run) -> list[str]:
    """The training set; in the evaluation, too, where a tuned prompt has its name."""
    sets = run.training_sets()
    return [f"dataloader.train.datasets=[['{sets[0]}',{run.copies}]]"] if sets else []


def finished(run: Run, output: Path) -> dict[str, Any] | None:
    """The result of a run; None if it has not been finished."""
    path = run.folder(output) / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def coco_results(run: Run, output: Path) -> Path:
    """What a finished run found on the test split."""
    return run.folder(output) / "evaluation/inference/test/coco_instances_results.json"


def carry_out(run: Run, settings: Settings) -> dict[str, Any]:
    """Do a run, or what is left of one that was interrupted.

    Returns:
        Split or old data set -> results of its evaluator, and the `"seconds"`; this is what
        `result.json` then holds.

    Raises:
        RunFailed: `glip train` ended with an error.
    """
    folder = run.folder(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    weights, start = settings.weights, time.time()
    if run.training_sets():
        weights = str(folder / "training" / "model_best.pth")
        if not (folder / TRAINED).is_file():
            _run(training_command(run, settings), folder / "training.txt")
            (folder / TRAINED).touch()
    _run(evaluation_command(run, settings, weights), folder / "evaluation.txt")
    results = json.loads((folder / "evaluation" / "last_results.json").read_text())
    result = {"val": results[run.data.val], "test": results["test"]}
    result.update((name, results[name]) for name in settings.old)
    result["seconds"] = round(time.time() - start, 1)
    with whole_file(folder / RESULT, "w") as file:  # a half-written one is no result
        json.dump(result, file, indent=2)
    if not settings.keep_weights:
        for path in (folder / "training").glob("*.pth"):
            path.unlink()
    return result


def _run(arguments: Sequence[str], log: Path) -> None:
    status = execute(arguments, log)
    if status:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise RunFailed(f"`glip train` ended with status {status}; all it said is in {log}:\n{end}")


def execute(arguments: Sequence[str], log: Path) -> int:
    """`glip train` in a process of its own, so that no memory and no log outlives a run."""
    with open(log, "a") as file:
        file.write(f"$ glip train {shlex.join(arguments)}\n")
        file.flush()
        command = [sys.executable, "-m", "glip_commands", "train", *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()  # the terminal has told it, too, and it saves
            raise
