"""Training and evaluating a model that a LazyConfig describes: `glip train`, `train_net.py`.

This is Detectron2's tools/lazyconfig_train_net.py plus what the help of `glip train` lists.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import HookBase, default_setup, hooks
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from omegaconf import DictConfig
from torch import nn

from ..checkpoint import GLIPCheckpointer, build_for_weights
from ..compat import create_ddp_model, launch
from ..config import named_setting
from ..errors import ConfigError
from ..modeling import GLIP
from ..modeling.precision import inference_autocast
from ..modeling.processes import share_buffers
from ..modeling.sharding import gathered, shard
from ..modeling.shortlist import Shortlist, require_contrast
from ..modeling.tta import tta_in_proportion
from ..seeding import seed as draw_anew
from ..signals import Stopped, StopSignals, passed_to_processes
from .ema import ModelEMA
from .evaluate import evaluate_test_sets, require_test_data
from .freezing import FrozenParts, freeze_all_but, parameter_table
from .hooks import Evaluation, WeightDecayStepHook, Writer, build_writers
from .loading import load_model, require_precision
from .optim import build_optimizer
from .patience import Patience, TrainingEnded
from .saving import Saving, resuming_command
from .setup import (
    find_resumed,
    load_config,
    make_deterministic,
    require_best_metric,
    require_free_folder,
    require_fsdp,
    require_masks,
    require_micro_batches,
    setup_logging,
    start_data_at,
    tell_tasks,
    warn_of_random_parts,
)
from .tracking import build_trackers, require_trackers
from .trainer import build_trainer, train
from .transfer import add_tuned_prompts, write_prompt_file

__all__ = ["begin", "do_test", "do_train", "launch_training", "main"]

logger = logging.getLogger(__name__)


def evaluation_precision(cfg: DictConfig) -> AbstractContextManager:
    """Context in which the model is evaluated: `inference.precision`, float32 without it.

    Raises:
        ConfigError: the device cannot do it.
    """
    precision = cfg.get("inference", {}).get("precision", "fp32")
    return inference_autocast(torch.device(cfg.train.device), precision)


def evaluation_options(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Further fields of the model's inputs in an evaluation: the shortlist of `inference`.

    Raises:
        UsageError: it is no whole number, or pins what are no names.
        ConfigError: the model has no contrast to make it with.
    """
    shortlist = Shortlist.of_settings(cfg.get("inference", {}))
    if shortlist is None:
        return {}
    require_contrast(model)
    return {"shortlist": shortlist}


def iterations_done() -> int | None:
    """By the training that evaluates now (see `Evaluation`); None where none does."""
    try:
        return get_event_storage().iter
    except AssertionError:
        return None


def do_test(
    cfg: DictConfig, model: nn.Module, ema: ModelEMA | None = None, stop: StopSignals | None = None
) -> dict[str, Any]:
    """Evaluate on every test set, with the averaged weights if there are any.

    Args:
        stop: a `StopSignals` that ends the evaluation (of several processes: when it is done).

    Returns:
        The metrics, which are also written to the output folder, with all tables
        (`last_results.json`, `results.json`, `results.md`).
    """
    inference = cfg.get("inference", {})
    tta = inference.get("tta", False)
    options = evaluation_options(cfg, model)
    require_precision(model, inference.get("precision", "fp32"))
    evaluated = model
    if tta:  # its views are made from the original pixels
        if not isinstance(model, GLIP):
            raise ConfigError(
                f"inference.tta averages the views of a GLIP, and the model is a "
                f"{type(model).__name__}: set inference.tta=False"
            )
        evaluated = tta_in_proportion(model, cfg.inference.min_size, cfg.inference.max_size)
    share_buffers(model)  # what is saved is evaluated: the first process's
    averaged = ema.applied() if ema else nullcontext()
    # The average is taken out of the model in any case, so that is outermost.
    stopping = stop.raised() if stop and not stop.patient else nullcontext()
    with averaged, gathered(model), evaluation_precision(cfg), stopping:
        return evaluate_test_sets(
            cfg.dataloader,
            evaluated,
            original_size=tta,
            options=options,
            output_dir=cfg.train.output_dir,
            iterations=iterations_done(),
        )


def build_hooks(
    cfg: DictConfig,
    model: nn.Module,
    ema: ModelEMA | None,
    checkpointer: GLIPCheckpointer,
    stop: StopSignals,
    start_iter: int,
) -> list[HookBase | None]:
    """The hooks of a run, in the order in which they act."""
    period, best = cfg.train.eval_period, cfg.train.get("best_metric", "")
    decay_steps = cfg.train.get("weight_decay_steps", ())
    patience = cfg.train.get("patience", {})
    patient = any(limit is not None for limit in patience.values())
    if patient and (not best or period < 0):
        raise ConfigError("train.patience needs train.best_metric and train.eval_period")
    with named_setting("lr_multiplier"):
        rates = hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier))
    with named_setting("train.checkpointer"):
        saving = Saving(checkpointer, stop, **cfg.train.checkpointer)
    evaluation = None
    if period >= 0:
        kind: Callable[..., Evaluation] = Evaluation
        if best:
            kind = partial(Patience, best, rates, checkpointer, **patience)
        with named_setting("train.patience"):
            evaluation = kind(period, lambda: do_test(cfg, model, ema, stop), saving)
    seed, average = cfg.train.get("seed", -1), None
    seeding = hooks.CallbackHook(before_step=lambda t: draw_anew(seed, comm.get_rank(), t.iter))
    if ema is not None:
        average = hooks.CallbackHook(after_step=lambda _: ema.update())
    writer = None
    if comm.is_main_process():
        folder = cfg.train.output_dir
        writers = build_writers(folder, cfg.train.max_iter, start_iter)
        writers += build_trackers(cfg.train.get("writers", ()), folder, start_iter)
        writer = Writer(writers, cfg.train.log_period)
    return [
        hooks.IterationTimer(),
        # What the model draws (dropout, samples) depends on the iteration, not on those before it:
        # a resumed run draws what it would have drawn.
        seeding if seed >= 0 else None,
        rates,
        WeightDecayStepHook(decay_steps) if decay_steps else None,
        average,  # before the checkpointer and the evaluation, which use it
        writer,
        saving,
        evaluation,
        hooks.CallbackHook(after_train=lambda _: writer.end()) if writer else None,
    ]


def do_train(
    args: argparse.Namespace,
    cfg: DictConfig,
    make_hooks: Callable[..., list[HookBase | None]] = build_hooks,
) -> None:
    """Train from `train.init_checkpoint`, or with `--resume` from the last checkpoint.

    Args:
        cfg: with `model`, `dataloader.{train,test,evaluator}`, `optimizer`,
            `lr_multiplier` and `train` (see configs/common/train.py).
        make_hooks: what happens beside the steps; takes what `build_hooks` takes.
    """
    found = find_resumed(cfg) if args.resume else None
    # The checkpoint stores the iteration that it finished.
    start_iter = found.iteration + 1 if found else 0
    weights = found.path if found else cfg.train.init_checkpoint
    model = build_for_weights(cfg.model, weights).to(cfg.train.device)
    if cfg.train.eval_period >= 0:
        evaluation_options(cfg, model)  # refuses now, not after the training
    tuned = add_tuned_prompts(cfg, model)
    parts = cfg.train.get("trained_parts")
    frozen = [] if parts is None else freeze_all_but(model, parts)
    logger.info("Model:\n%s", model)
    logger.info("What is trained:\n%s", parameter_table(model))

    checkpointer = GLIPCheckpointer(model, cfg.train.output_dir)
    if not found:  # before the data, which may take minutes: a wrong file is refused now
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=False)
        warn_of_random_parts(cfg)
    start_data_at(cfg, start_iter)
    tell_tasks(cfg, model)
    # Before anything is built of the parameters: all processes get those of the first.
    if cfg.train.get("fsdp", False):
        shard(parallel := model)
    else:
        parallel = create_ddp_model(model, **cfg.train.ddp)

    ema = None
    if cfg.train.ema.enabled:
        ema = ModelEMA(model, cfg.train.ema.decay, cfg.train.ema.warmup)
        checkpointer.add_checkpointable("ema", ema)

    cfg.optimizer.params.model = model
    optimizer = build_optimizer(cfg.optimizer)
    with named_setting("dataloader.train"):
        train_loader = instantiate(cfg.dataloader.train)
    trainer = build_trainer(parallel, train_loader, optimizer, cfg.train)
    checkpointer.add_checkpointable("trainer", trainer)
    stop = StopSignals(patient=comm.get_world_size() > 1)
    hooks_of_run = make_hooks(cfg, model, ema, checkpointer, stop, start_iter)
    trainer.register_hooks([FrozenParts(frozen), *hooks_of_run])

    if found:
        with named_setting(f"--resume from '{found.path}'"):  # of another optimizer, for instance
            checkpointer.load(found.path)
        if ema and ema.updates == 0:
            ema.reset()  # to the weights just loaded, unless the average itself was among them
    try:
        with stop:
            train(trainer, start_iter, cfg.train.max_iter)
    except TrainingEnded as reason:
        logger.info("The training ends after iteration %d: %s.", trainer.iter, reason)
    # A range test (`make_hooks`) saves nothing.
    if tuned and comm.is_main_process() and checkpointer.has_checkpoint():
        write_prompt_file(cfg, model, tuned)


def begin(args: argparse.Namespace) -> DictConfig:
    """The config of a job that is ready to run, with its log begun and its test data looked at.

    Args:
        args: see `main`.
    """
    cfg = load_config(args)
    if args.eval_only and not cfg.train.init_checkpoint:
        raise ConfigError(
            "an evaluation needs weights: --model NAME, --weights FILE, train.init_checkpoint=FILE"
        )
    if not args.eval_only:
        require_free_folder(cfg.train.output_dir, args.resume)  # before anything is written there
    default_setup(cfg, args)
    setup_logging(cfg.train.output_dir)
    if cfg.train.get("deterministic", False):
        make_deterministic()
    if args.eval_only or cfg.train.eval_period >= 0:
        require_test_data(cfg.dataloader)
        evaluation_precision(cfg)  # refuses now, not after the training
    if not args.eval_only:
        if cfg.train.eval_period >= 0:
            require_best_metric(cfg)
        require_masks(cfg)
        require_micro_batches(cfg)
        require_fsdp(cfg)
        require_trackers(cfg.train.get("writers", ()))
    return cfg


def main(args: argparse.Namespace) -> None:
    """Train or evaluate, in one process of the job.

    Args:
        args: the options of glip_commands/train.py.
    """
    cfg = begin(args)
    if not args.eval_only:
        try:
            do_train(args, cfg)
        except Stopped as stopped:
            if comm.is_main_process():
                command_line = resuming_command(args.num_machines)
                logger.warning("The training was %s; to go on: %s", stopped, command_line)
            sys.exit(stopped.status)
        return
    do_test(cfg, load_model(cfg.model, cfg.train.init_checkpoint, cfg.train.device))


def launch_training(
    args: argparse.Namespace, run: Callable[[argparse.Namespace], None] | None = None
) -> int:
    """Run `main` in the processes that the options ask for.

    Args:
        args: the options of glip_commands/train.py.
        run: in place of `main`; can be imported by its name.

    Returns:
        The exit status.
    """
    with passed_to_processes():
        launch(
            run or main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
            num_processes=args.num_processes,
        )
    return 0
