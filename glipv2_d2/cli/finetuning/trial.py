"""Some steps of a training before it: how long they take here, and how much fits into the GPU."""

from __future__ import annotations

import copy
import statistics
import time
from itertools import islice
from typing import NamedTuple

import torch
from detectron2.config import instantiate
from detectron2.evaluation import inference_context
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from ...checkpoint import GLIPCheckpointer, build_for_weights
from ...config import named_setting
from ...engine.evaluate import pair_test_sets
from ...engine.freezing import freeze_all_but
from ...engine.trainer import build_trainer
from ...engine.training import evaluation_precision
from ...engine.transfer import add_tuned_prompts
from ...errors import ConfigError

STEPS = 3  # after one that warms up
BATCHES = 2  # of each test set, after one


class Pace(NamedTuple):
    """What the trial found.

    Attributes:
        step, evaluation: seconds of a training step, and of an evaluation on all test sets.
        micro_batches: into how many parts a batch is split, so that it fits.
        trained, parameters: millions of parameters that are trained, and of all.
    """

    step: float
    evaluation: float
    micro_batches: int = 1
    trained: float = 0.0
    parameters: float = 0.0


def measure_pace(config: DictConfig, processes: int) -> Pace:
    """Train a few steps in this process, and evaluate a few batches; nothing of it is kept.

    Args:
        config: of the training.
        processes: among which the training will divide the batch and the evaluation.

    Raises:
        ConfigError: not even one image at a time fits into the memory of the GPU.
        CheckpointError: the weights are of another model.
    """
    workers = config.dataloader.train.num_workers
    batch = config.dataloader.train.total_batch_size // processes
    node = copy.deepcopy(config.dataloader.train)
    node.num_workers, node.total_batch_size = 0, batch
    model = build_for_weights(config.model, config.train.init_checkpoint).to(config.train.device)
    add_tuned_prompts(config, model)
    GLIPCheckpointer(model, strict=True).load(config.train.init_checkpoint, checkpointables=[])
    evaluation = _seconds_of_evaluation(config, model) / processes
    parts = config.train.get("trained_parts")
    if parts is not None:
        freeze_all_but(model, parts)
    with named_setting("dataloader.train"):
        loader = instantiate(node)
    for micro_batches in (count for count in range(1, batch + 1) if batch % count == 0):
        config.train.micro_batches = micro_batches
        try:
            step = _seconds_of_step(config, model, loader, workers)
        except torch.cuda.OutOfMemoryError:
            model.zero_grad()
            torch.cuda.empty_cache()
        else:
            return Pace(step, evaluation, micro_batches, *_millions(model))
    raise ConfigError(
        "not even one image at a time fits into the memory of this GPU: make images smaller "
        "(inference.min_size, dataloader.train.mapper.augmentations), freeze more (--mode head), "
        "or train on another GPU"
    )


def _millions(model: nn.Module) -> tuple[float, float]:
    """Parameters that are trained, and all."""
    counts = [(p.numel() / 1e6, p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in counts if trained), sum(n for n, _ in counts)


def _seconds_of_step(config: DictConfig, model: nn.Module, loader, workers: int) -> float:
    """Of a step whose data come from `workers` processes; the loader has none."""
    config.optimizer.params.model = model
    with named_setting("optimizer"):
        optimizer = instantiate(config.optimizer)
    trainer = build_trainer(model.train(), loader, optimizer, config.train)
    seconds = []
    with EventStorage(0) as trainer.storage:
        for trainer.iter in range(STEPS + 1):
            start = time.perf_counter()
            trainer.run_step()
            whole = time.perf_counter() - start
            data = trainer.storage.latest()["data_time"][0]
            seconds.append(max(whole - data, data / max(workers, 1)))
    return statistics.median(seconds[1:])


def _seconds_of_evaluation(config: DictConfig, model: nn.Module) -> float:
    total = 0.0
    for name, (node, _) in pair_test_sets(config.dataloader).items():
        node = copy.deepcopy(node)
        node.num_workers = 0
        with named_setting(f"dataloader.test {name}"):
            batches = instantiate(node)
        with inference_context(model), torch.no_grad(), evaluation_precision(config):
            some = list(islice(batches, BATCHES + 1))
            model(some[0])
            start = time.perf_counter()
            for batch in some[1:] or some:
                model(batch)
            total += (time.perf_counter() - start) / len(some[1:] or some) * len(batches)
    return total
