"""One run of a sweep: `glip train` once or twice, and the file that says that it is finished."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog

from ...data.datasets.coco_like import read_json
from ...errors import UserError
from ...evaluation.odinw import ODinWRun
from ...files import whole_file
from .plan import COPIES, Run

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
            known["weights_size_and_time"] = [weights.stat().st_size, weights.stat().st_mtime_ns]
        return known


def evaluation_command(run: Run, settings: Settings, weights: str) -> list[str]:
    """Arguments of `glip train` that evaluate a run's model on both splits."""
    knowledge = settings.caption_knowledge and run.shots == 0
    return [
        *("--config-file", settings.config, "--eval", "configs/eval/odinw.py"),
        *("--eval-only", *settings.machine, *settings.opts),
        f"evaluation.dataset={run.prefix}",
        f"evaluation.select={run.select}",
        f"evaluation.caption_knowledge={knowledge}",
        f"train.init_checkpoint={weights}",
        f"train.output_dir={run.folder(settings.output) / 'evaluation'}",
    ]


def training_command(run: Run, settings: Settings, sets: tuple[str, str]) -> list[str]:
    """Arguments of `glip train` that fine-tune a run's model, or go on where that stopped."""
    train, select = sets
    copies = COPIES[run.shots]
    source = MetadataCatalog.get(train).json_file
    images = len(read_json(source, {"images"}, "COCO's format")["images"])
    epoch = max(-(-images * copies // settings.batch), 1)
    lower_rate, stop = PATIENCE["all" if run.shots is None else "few"]
    return [
        *("--config-file", settings.config, "--tune", "configs/finetune/odinw.py"),
        *("--resume", *settings.machine),
        f"train.max_iter={epoch * settings.epochs}",
        f"train.eval_period={epoch}",
        f"train.checkpointer.period={5 * epoch}",
        f"train.patience.lower_rate={lower_rate}",
        f"train.patience.stop={stop}",
        f"dataloader.train.total_batch_size={settings.batch}",
        *settings.opts,
        f"dataloader.train.datasets=[['{train}',{copies}]]",
        f"dataloader.test.dataset='{select}'",
        f"train.init_checkpoint={settings.weights}",
        f"train.output_dir={run.folder(settings.output) / 'training'}",
    ]


def finished(run: Run, output: Path) -> dict[str, Any] | None:
    """The result of a run; None if it has not been finished."""
    path = run.folder(output) / RESULT
    return json.loads(path.read_text()) if path.is_file() else None


def odinw_runs(run: Run, result: Mapping[str, Any]) -> list[ODinWRun]:
    """Both splits of a finished run, for the table."""
    return [
        ODinWRun(run.dataset, split, result[split]["bbox"]["AP"], run.shots, run.seed)
        for split in ("test", "val")
    ]


def coco_results(run: Run, output: Path) -> Path:
    """What a finished run found on the test split."""
    return run.folder(output) / "evaluation/inference/test/coco_instances_results.json"


def carry_out(run: Run, settings: Settings) -> dict[str, Any]:
    """Do a run, or what is left of one that was interrupted.

    Returns:
        Split -> results of the COCO evaluator; this is what `result.json` then holds.

    Raises:
        RunFailed: `glip train` ended with an error.
    """
    folder = run.folder(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    weights, start = settings.weights, time.time()
    if sets := run.training_sets():
        weights = str(folder / "training" / "model_best.pth")
        if not (folder / TRAINED).is_file():
            _run(training_command(run, settings, sets), folder / "training.txt")
            (folder / TRAINED).touch()
    _run(evaluation_command(run, settings, weights), folder / "evaluation.txt")
    results = json.loads((folder / "evaluation" / "last_results.json").read_text())
    result = {"val": results[f"{run.prefix}_{run.select}"], "test": results["test"]}
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
