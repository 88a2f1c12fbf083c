"""The work of a fine-tuning in the processes of its job: measure, train, measure, merge."""

from __future__ import annotations

import copy
import json
import logging
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ...checkpoint import GLIPCheckpointer, build_for_weights, checkpoints_in, merge_weights
from ...compat import launch
from ...engine.evaluate import add_test_set, pair_test_sets
from ...engine.training import begin, do_test, do_train
from ...engine.transfer import add_tuned_prompts
from ...files import whole_file
from ...language.prompt import Prompt
from ...signals import Stopped, passed_to_processes

logger = logging.getLogger(__name__)

# The weights are evaluated at these shares of what was learned, besides all and nothing of it.
ALPHAS = (0.25, 0.5, 0.75)
_CALLED = {"before": "the base", "after": "the best of the training"}
# Loggers that are heard in the console; log.txt has all.
AUDIBLE = ("glipv2_d2.cli", "glipv2_d2.engine.patience", "detectron2.utils.events")
TRAINED = "trained"
RESULTS = "last_results.json"


class Job(NamedTuple):
    """What the processes are told.

    Attributes:
        folder: of the run.
        config: its file.
        old: sets that are evaluated before and after the training, and not during it.
        merges: whether the weights between base and tuned model are evaluated, too.
        gpus, processes: as for `glip train`.
    """

    folder: str
    config: str
    old: list[str]
    merges: bool
    gpus: int
    processes: int


class Outcome(NamedTuple):
    """Whether the training came to its end, and the exit status of the job."""

    finished: bool
    status: int


def carry_out(job: Job) -> Outcome:
    """Do the work, or what is left of it; Ctrl-C ends the training, and the best is evaluated."""
    status = 0
    try:
        with passed_to_processes():
            launch(_work, job.gpus, args=(job,), num_processes=job.processes)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    except KeyboardInterrupt:
        status = 130
    finished = (Path(job.folder) / TRAINED).is_file()
    return Outcome(finished, status if finished else status or 130)


def _work(job: Job) -> None:
    folder = Path(job.folder)
    cfg = config_of(job)
    log = folder / "training" / "output.txt"
    with open(log, "a", encoding="utf-8") as output, redirect_stdout(output):  # pycocotools prints
        base = _weights(cfg, cfg.train.init_checkpoint)
        _evaluate(job, cfg, base, "before")
        if not (folder / TRAINED).is_file():
            _train(job, cfg)
        best = folder / "training" / "model_best.pth"
        if not best.is_file():
            return  # stopped before the first evaluation
        tuned = _weights(cfg, str(best))
        _evaluate(job, cfg, tuned, "after")
        if job.merges and (folder / TRAINED).is_file():
            for alpha in ALPHAS:
                _evaluate(job, cfg, merge_weights(base, tuned, alpha), f"merged/{alpha:g}")


def config_of(job: Job) -> DictConfig:
    """The config of a process that trains, whose log is begun."""
    training = Path(job.folder) / "training"
    _quieten(str(training))
    return begin(_options(job))


def _options(job: Job) -> Namespace:
    return options(job.config, job.gpus, bool(checkpoints_in(Path(job.folder) / "training")))


def options(config: str, gpus: int, resume: bool = False) -> Namespace:
    """What `glip train --config-file CONFIG` gives to the engine."""
    return Namespace(
        config_file=config, register=[], opts=[], tune="", eval="", mode=None, old=[],
        eval_only=False, resume=resume, num_gpus=gpus, num_machines=1,
    )  # fmt: skip


def _quieten(folder: str) -> None:
    """Begin the logs before `default_setup` does, with the same arguments, so that its calls find
    them begun; the console gets what a user waits for, and every warning."""
    rank = comm.get_rank()
    loggers = [
        setup_logger(folder, distributed_rank=rank, name="fvcore"),
        setup_logger(folder, distributed_rank=rank),
        setup_logger(folder, distributed_rank=rank, name="glipv2_d2"),
    ]
    for handler in {handler for each in loggers for handler in each.handlers}:
        if getattr(handler, "stream", None) is sys.stdout:
            handler.addFilter(_audible)


def _audible(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.startswith(AUDIBLE)


def _weights(cfg: DictConfig, path: str) -> dict[str, torch.Tensor]:
    """All weights of the model with those of a file, on the CPU."""
    model, _ = built(cfg, path)
    return model.state_dict()


def built(cfg: DictConfig, path: str | Path) -> tuple[Any, list[Prompt]]:
    """The model, a `GLIP` where prompts are tuned, with the weights of a file; and these prompts.

    A prompt that the file does not have is as it was before the training.
    """
    model = build_for_weights(cfg.model, path)
    prompts = add_tuned_prompts(cfg, model)
    GLIPCheckpointer(model, strict=True).load(str(path), checkpointables=[])
    return model, prompts


def _train(job: Job, cfg: DictConfig) -> None:
    if comm.is_main_process():
        # What a run that was stopped has left is of other weights.
        (Path(job.folder) / "after" / RESULTS).unlink(missing_ok=True)
    try:
        do_train(_options(job), copy.deepcopy(cfg))
    except Stopped:
        logger.warning(
            "Stopped: the best model so far is evaluated (Ctrl-C again leaves that out); the same "
            "command goes on with the training."
        )
        return
    if comm.is_main_process():
        (Path(job.folder) / TRAINED).touch()
    comm.synchronize()


def _evaluate(job: Job, cfg: DictConfig, weights: dict[str, torch.Tensor], name: str) -> None:
    """Evaluate weights into a folder of that name, unless that was done."""
    target = Path(job.folder) / name
    if comm.all_gather((target / RESULTS).is_file())[0]:
        return
    cfg = copy.deepcopy(cfg)
    cfg.train.output_dir = str(target)
    for old in job.old:
        add_test_set(cfg.dataloader, old)
    model = build_for_weights(cfg.model, cfg.train.init_checkpoint)
    add_tuned_prompts(cfg, model)
    model.load_state_dict(weights)
    sets = ", ".join(name or cfg.own.val for name in pair_test_sets(cfg.dataloader))
    called = _CALLED.get(name) or f"weights between base and tuned model, {name}"
    logger.info("Evaluating %s on %s", called, sets)
    do_test(cfg, model.to(cfg.train.device))


def results_of(folder: Path, name: str, val: str) -> dict[str, Any] | None:
    """What an evaluation found, by test set; None where it was not made.

    Args:
        folder: of the run.
        name: of the evaluation: `"before"`, `"after"`, `"merged/0.5"`.
        val: name of the validation set.
    """
    path = folder / name / RESULTS
    if not path.is_file():
        return None
    results = json.loads(path.read_text(encoding="utf-8"))
    return results if val in results else {val: results}


def predictions_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """The COCO results of an evaluation on the validation set."""
    path = folder / name / "inference" / "coco_instances_results.json"
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write json that is there as a whole or not at all."""
    with whole_file(path, "w") as file:
        json.dump(content, file, indent=1)
