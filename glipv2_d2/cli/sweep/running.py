"""One run of a sweep: `glip train` once or twice, and the file that says that it is finished."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog

from ...checkpoint import merge_weights
from ...config import apply_overrides, get_config
from ...errors import UserError
from ...files import whole_file
from ..finetuning.plan import replay_weights
from ..merge import weights_of
from .plan import Run

RESULT = "result.json"
TRAINED = "trained"
CLOCK = "clock.json"
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
        replay: data sets that are trained on beside a task's own, half of all images.
        alphas: of weights between base and tuned model that are evaluated, too.
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
    replay: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
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
        # A sweep of the suite, as it was before there were others, has none of these.
        more = {"old": [*self.old], "replay": [*self.replay], "alphas": [*self.alphas]}
        known.update({k: v for k, v in {**more, "data": self.data}.items() if v})
        return known

    @property
    def common(self) -> list[str]:
        """Arguments of every `glip train`."""
        registered = [word for file in self.register for word in ("--register", file)]
        return ["--config-file", self.config, *self.machine, *registered]


def size_and_time(path: Path) -> list[int]:
    """Of a file, by which a change of it is noticed."""
    return [path.stat().st_size, path.stat().st_mtime_ns]


def evaluation_command(
    run: Run, settings: Settings, weights: str, folder: str = "evaluation"
) -> list[str]:
    """Arguments of `glip train` that evaluate weights on both splits, and on the old sets."""
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
        f"train.output_dir={run.folder(settings.output) / folder}",
    ]


def training_command(run: Run, settings: Settings) -> list[str]:
    """Arguments of `glip train` that fine-tune a run's model, or go on where that stopped."""
    train, select = run.training_sets() or ("", "")
    images = len(DatasetCatalog.get(train)) * run.copies
    replay = _replayed(run, settings, images)
    epoch = max(-(-images * (2 if replay else 1) // settings.batch), 1)
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
        *_trained_on(run, replay),
        f"dataloader.test.dataset='{select}'",
        f"train.init_checkpoint={settings.weights}",
        f"train.output_dir={run.folder(settings.output) / 'training'}",
    ]


def _mode(run: Run) -> list[str]:
    return ["--mode", run.mode] if run.shots != 0 and run.mode != "full" else []


def _trained_on(run: Run, replay: Sequence[list] = ()) -> list[str]:
    """The training sets; in the evaluation, too, where a tuned prompt has the name of the first."""
    sets = run.training_sets()
    if not sets:
        return []
    mix = ",".join(f"['{name}',{weight}]" for name, weight in [[sets[0], run.copies], *replay])
    return [f"dataloader.train.datasets=[{mix}]"]


def _replayed(run: Run, settings: Settings, images: int) -> list[list]:
    """What is trained on beside `images` of the task's own, where the base is changed."""
    if run.mode == "prompt":
        return []
    return replay_weights(
        images, [(name, 1.0, len(DatasetCatalog.get(name))) for name in settings.replay]
    )


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
        Split or old data set -> results of its evaluator; `"merged"`: the same for each alpha;
        `"seconds"`, of attempts that were interrupted, too. This is what `result.json` then holds.

    Raises:
        RunFailed: `glip train` ended with an error.
    """
    folder = run.folder(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    weights, start = settings.weights, _start_clock(folder)
    if run.training_sets():
        weights = str(folder / "training" / "model_best.pth")
        if not (folder / TRAINED).is_file():
            _run(training_command(run, settings), folder / "training.txt")
            (folder / TRAINED).touch()
    result: dict[str, Any] = _evaluated(run, settings, weights, "evaluation")
    if settings.alphas:
        result["merged"] = {
            f"{alpha:g}": _evaluated(run, settings, merged, f"evaluation_alpha_{alpha:g}")
            for alpha, merged in _merged(run, settings, weights)
        }
    result["seconds"] = round(time.time() - start, 1)
    with whole_file(folder / RESULT, "w") as file:  # a half-written one is no result
        json.dump(result, file, indent=2)
    (folder / CLOCK).unlink()
    if not settings.keep_weights:
        for path in (folder / "training").glob("*.pth"):
            path.unlink()
    return result


def _start_clock(folder: Path) -> float:
    """When this attempt would have begun if it had all the seconds of those before it.

    A kill leaves no time to note when it was, so that an attempt counts up to its last log line.
    """
    path, now, spent = folder / CLOCK, time.time(), 0.0
    if path.is_file():
        before = json.loads(path.read_text())
        logged = [log.stat().st_mtime - before["start"] for log in folder.glob("*.txt")]
        spent = before["spent"] + max([0.0, *logged])
    with whole_file(path, "w") as file:
        json.dump({"start": now, "spent": spent}, file)
    return now - spent


def _evaluated(run: Run, settings: Settings, weights: str, name: str) -> dict[str, Any]:
    """Split or old data set -> results of its evaluator, for some weights."""
    folder = run.folder(settings.output)
    _run(evaluation_command(run, settings, weights, name), folder / f"{name}.txt")
    results = json.loads((folder / name / "last_results.json").read_text())
    splits = {"val": results[run.data.val], "test": results["test"]}
    return splits | {old: results[old] for old in settings.old}


def _merged(run: Run, settings: Settings, tuned: str) -> Iterator[tuple[float, str]]:
    """Alpha and a file with the weights, one after the other in one place; nothing where the base
    is not changed."""
    if not run.training_sets() or run.mode == "prompt":
        return
    overrides = [text for text in settings.opts if text.startswith("model.")]
    config = apply_overrides(get_config(settings.config), overrides)
    base, state = (weights_of(path, config) for path in (settings.weights, tuned))
    path = Path(tuned).with_name("merged.pth")
    for alpha in settings.alphas:
        torch.save({"model": merge_weights(base, state, alpha)}, path)
        yield alpha, str(path)


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
