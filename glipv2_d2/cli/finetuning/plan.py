"""How to train: settings of the config by the data and the machine, each with its reason."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from ...checkpoint import build_for_weights
from .own_data import OwnData
from .trial import Pace

# Modes that move what the base knows, and so gain from images of before.
FORGETFUL = ("full", "head", "linear", "language")
REPLAY_SHARE = 0.5
CPU_MINUTES = 60.0
# Evaluations of a run, and what share of the time they may take.
EVALUATIONS, EVALUATION_SHARE = 20, 1 / 3
SMALL_SIDE = 16  # pixels as the model sees them: two steps of its finest level


class Setting(NamedTuple):
    """A value of the config and why; `key` empty: something that stays as it is, and why."""

    topic: str
    why: str
    key: str = ""
    value: Any = None


class Machine(NamedTuple):
    """What a run may use.

    Attributes:
        gpus: of this machine; 0: CPU.
        processes: of the run, one for each GPU.
        cpus: cores of this machine.
        bf16: whether the GPU computes in it.
    """

    gpus: int
    processes: int
    cpus: int
    bf16: bool

    @classmethod
    def here(cls, gpus: int, processes: int) -> Machine:
        """This machine."""
        affinity = getattr(os, "sched_getaffinity", None)  # Linux only
        cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
        bf16 = bool(gpus) and torch.cuda.is_bf16_supported(including_emulation=False)
        return cls(gpus, max(gpus, processes), cpus, bf16)


def settings_by_data(
    data: OwnData, config: DictConfig, mode: str, machine: Machine
) -> list[Setting]:
    """Batch, rate, workers, precision; what is said of the size of the images.

    Args:
        data: that is trained on.
        config: of the model, in its mode.
        mode: of `MODES`.
        machine: that it is trained on.
    """
    return [
        _batch(data, machine),
        _rate(config, mode),
        _workers(machine),
        *_precision(config, machine),
        _size(data, config),
        *_chunks(data, config),
        *_first_stage(data, config, mode),
    ]


def _batch(data: OwnData, machine: Machine) -> Setting:
    images = len(data.train)
    batch = 4 if images < 1000 else 8 if images < 10_000 else 16
    batch = min(batch, images)
    batch = -(-batch // machine.processes) * machine.processes
    why = f"{images} training images; 4 below 1,000 images as in GLIP's few-shot runs, 16 for COCO"
    return Setting("batch", why, "dataloader.train.total_batch_size", batch)


def _rate(config: DictConfig, mode: str) -> Setting:
    rate, decay = config.optimizer.lr, config.optimizer.weight_decay
    why = f"GLIP's for this mode ({mode}); weight decay {decay:g}"
    slower = config.optimizer.params.get("lr_by_prefix") or {}
    if mode == "full" and slower:
        why += "; " + ", ".join(f"{part} {value:g}" for part, value in slower.items())
    return Setting("rate", f"{rate:g}: {why}; falls tenfold when validation does not improve")


def _workers(machine: Machine) -> Setting:
    workers = min(4, max(1, machine.cpus // max(machine.processes, 1) - 1))
    why = f"{machine.cpus} cores for {machine.processes} process(es)"
    return Setting("workers", why, "dataloader.train.num_workers", workers)


def _precision(config: DictConfig, machine: Machine) -> list[Setting]:
    if not machine.gpus or not config.train.amp.enabled:
        kept = config.train.amp.precision if config.train.amp.enabled else "float32"
        return [Setting("precision", f"{kept}: as in the config of the base")]
    precision = "bf16" if machine.bf16 else "fp16"
    why = "what this GPU computes in" if machine.bf16 else "this GPU does not compute in bf16"
    return [Setting("precision", why, "train.amp.precision", precision)]


def _size(data: OwnData, config: DictConfig) -> Setting:
    least, most = config.inference.min_size, config.inference.max_size
    sizes = [(r["width"], r["height"]) for r in data.train]
    width, height = (sorted(values)[len(values) // 2] for values in zip(*sizes))
    why = (
        f"short side {least}, at most {most}: as the base was trained; the median of your images "
        f"is {width}x{height}"
    )
    sides = [
        math.sqrt(w * h) * min(least / min(size), most / max(size))
        for record, size in zip(data.train, sizes)
        for w, h in data.box_sizes(record)
    ]
    small = sum(side < SMALL_SIDE for side in sides) / max(len(sides), 1)
    if small > 0.2:
        why += (
            f"; {small:.0%} of the boxes are smaller than {SMALL_SIDE} pixels then, which is hard: "
            f"try inference.min_size={2 * least} inference.max_size={2 * most}"
        )
    return Setting("image size", why)


def _chunks(data: OwnData, config: DictConfig) -> list[Setting]:
    size = config.model.get("chunk_size")
    count = len(data.classes)
    if size is None or count <= size:
        return []
    why = f"{count} classes are asked for in {-(-count // size)} prompts of up to {size} names"
    return [Setting("vocabulary", why)]


def _first_stage(data: OwnData, config: DictConfig, mode: str) -> list[Setting]:
    key = "model.backbone.bottom_up.frozen_stages"
    if mode != "full" or len(data.train) >= 1000 or OmegaConf.select(config, key) is None:
        return []
    return [Setting("frozen stages", "the first stage stays, as in GLIP's fine-tuning", key, 1)]


def parts(config: DictConfig, data: OwnData) -> list[Setting]:
    """What follows for a mask head from masks that all boxes have, or not."""
    if config.model.get("mask_head") is None:
        return []
    annotations = [a for record in data.train for a in record["annotations"]]
    if all("segmentation" in annotation for annotation in annotations):
        why = "every box has one"
        return [Setting("masks", why, "dataloader.train.mapper.use_masks", True)]
    if config.train.trained_parts is not None:
        return []
    model = build_for_weights(config.model, config.train.init_checkpoint)
    named = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
    trained = sorted({name.partition(".")[0] for name in named} - {"mask_head"})
    why = "not all boxes have one, so that the mask head stays as it is"
    return [Setting("masks", why, "train.trained_parts", trained)]


def minutes_for(wanted: float | None, machine: Machine) -> float | None:
    """The time that a training may take, in minutes; None: what the data call for."""
    return CPU_MINUTES if wanted is None and not machine.gpus else wanted


def replay_weights(images: int, replay: Sequence[tuple[str, float, int]]) -> list[list]:
    """How often an epoch sees each image of what is replayed, so that it is `REPLAY_SHARE` of all.

    Args:
        images: of one's own.
        replay: name, weight among each other, number of images.

    Returns:
        [name, weight] for `dataloader.train.datasets`.
    """
    weighted = sum(weight * count for _, weight, count in replay)
    scale = images * REPLAY_SHARE / (1 - REPLAY_SHARE) / max(weighted, 1e-9)
    return [[name, round(weight * scale, 6)] for name, weight, _ in replay]


def settings_by_time(
    data: OwnData,
    pace: Pace,
    batch: int,
    own_share: float,
    minutes: float | None,
    max_iter: int | None,
) -> list[Setting]:
    """Iterations, evaluations and early stop.

    Args:
        data: that is trained on.
        pace: of this machine.
        batch: images of an iteration.
        own_share: how many of them are one's own.
        minutes: what the training may take; None: as long as the data call for.
        max_iter: iterations; None: see `minutes`.
    """
    images = len(data.train)
    per_iteration = batch * own_share
    # 200 epochs of 100 images, as GLIP's few-shot runs; 6 of COCO.
    views = 2000 * math.sqrt(images)
    wanted = math.ceil(views / per_iteration)
    why = f"each of {images} images is seen about {views / images:.0f} times at most"
    iterations = max_iter or wanted
    if max_iter:
        why = "--max-iter"
    elif minutes is not None:
        seconds = 60 * minutes
        fitting = _fitting(seconds, pace)
        if fitting < wanted:
            why = f"what fits into {minutes:g} minutes; with {wanted} {why}"
            iterations = fitting
    epoch = max(math.ceil(images / per_iteration), 1)
    period = max(epoch, math.ceil(iterations / _evaluations(iterations * pace.step, pace)))
    period = min(period, iterations)
    few = data.least_images_of_a_class() <= 10
    lower, stop = (3, 8) if few else (2, 4)
    total = iterations * pace.step + iterations // period * pace.evaluation
    return [
        Setting("trained", f"{pace.trained:.3g} of {pace.parameters:.3g} million parameters"),
        *_memory(pace),
        Setting(
            "iterations",
            f"{why}; a step takes {pace.step:.2f} s here: {_duration(total)} with evaluations",
            "train.max_iter",
            iterations,
        ),
        Setting(
            "evaluation",
            f"an epoch is {epoch} iterations; an evaluation takes {_duration(pace.evaluation)}",
            "train.eval_period",
            period,
        ),
        Setting("", "", "train.checkpointer.period", period),
        Setting(
            "early stop",
            f"after {stop} evaluations below the best, the rate falls after {lower}: GLIP's for "
            f"{'few' if few else 'all'} data",
            "train.patience",
            {"lower_rate": lower, "stop": stop},
        ),
    ]


def _memory(pace: Pace) -> list[Setting]:
    if pace.micro_batches == 1:
        return []
    why = "more images at once do not fit into this GPU; the gradient is that of the whole batch"
    return [Setting("micro-batches", why, "train.micro_batches", pace.micro_batches)]


def _fitting(seconds: float, pace: Pace) -> int:
    """Iterations that fit, with their evaluations."""
    evaluations = _evaluations(seconds * (1 - EVALUATION_SHARE), pace)
    return max(int((seconds - evaluations * pace.evaluation) / pace.step), 1)


def _evaluations(training: float, pace: Pace) -> int:
    """How many evaluations go with so many seconds of training."""
    affordable = training * EVALUATION_SHARE / (1 - EVALUATION_SHARE) / max(pace.evaluation, 1e-9)
    return min(max(int(affordable), 1), EVALUATIONS)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def value_of(settings: Sequence[Setting], key: str) -> Any:
    """The value that a plan has for a key."""
    return next(setting.value for setting in settings if setting.key == key)


def lines(settings: Sequence[Setting]) -> list[str]:
    """For people: a line for each setting that has a topic."""
    width = max(len(setting.topic) for setting in settings)
    return [
        f"  {s.topic:{width}s}  " + (f"{_plain(s.value)}: {s.why}" if s.key else s.why)
        for s in settings
        if s.topic
    ]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
